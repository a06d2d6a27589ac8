"""Keeps the disk from filling with checkpoints: the files of those that nothing can start from any more are deleted.

Which those are is the database's word (store.leases), marked there before a file goes. The resume checkpoint is always
one of the kept.
"""

import logging
import shutil

from sqlalchemy.exc import SQLAlchemyError

from store.artifacts import Artifacts
from store.errors import LeaseLost, UnsafePath
from worker.held_job import HeldJob

log = logging.getLogger(__name__)


def delete_superseded(job: HeldJob, artifacts: Artifacts) -> None:
    """Delete what the job's spec does not keep, and what earlier attempts left that the database does not know.

    Nothing here is worth ending a run for: what fails is logged, and done with the next checkpoint.
    """
    try:
        marked, kept = job.forget_superseded_checkpoints()
    except (LeaseLost, SQLAlchemyError) as error:
        log.warning("%s: old checkpoints stay for now: %s", job, error)
        return
    for path in sorted((marked | _left_behind(job, artifacts)) - kept):
        try:
            folder = artifacts.resolve(path)
            log.info("%s: deleting %s", job, path)
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except (OSError, UnsafePath) as error:
            log.warning("%s: cannot delete %s: %s", job, path, error)


def _left_behind(job: HeldJob, artifacts: Artifacts) -> set[str]:
    """Checkpoint folders of earlier attempts, those included that were never registered or half written.

    An attempt may have died between writing a checkpoint and registering it, or between marking and deleting.
    This attempt's own may still be on their way into the database, so they are left alone.
    """
    found: set[str] = set()
    for attempt in range(1, job.claim.attempt):
        folder = artifacts.attempt_dir(job.claim.job_id, attempt) / "checkpoints"
        if folder.is_dir():
            found |= {str(path.relative_to(artifacts.root)) for path in folder.iterdir()}
    return found
