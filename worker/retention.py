"""Keeps the disk from filling with checkpoints: the files of those that nothing can start from any more are deleted.

Which those are is the database's word (store.checkpoints), marked there before a file goes. The resume checkpoint is
always one of the kept.
"""

import logging
import shutil
from collections.abc import Iterable

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
        pruned = job.prune_checkpoints()
    except (LeaseLost, SQLAlchemyError) as error:
        log.warning("%s: old checkpoints stay for now: %s", job, error)
        return
    # An earlier attempt may have died between writing a checkpoint and registering it, or between marking and deleting.
    # This attempt's own may still be on their way into the database, so they are left alone.
    earlier = artifacts.checkpoints_on_disk(job.claim.job_id, range(1, job.claim.attempt))
    delete_folders(artifacts, (pruned.marked | earlier) - pruned.kept)


def delete_folders(artifacts: Artifacts, paths: Iterable[str]) -> bool:
    """Delete folders below the artifact root. False when one of them could not be; it is logged."""
    done = True
    for path in sorted(paths):
        try:
            folder = artifacts.resolve(path)
            log.info("deleting %s", path)
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except (OSError, UnsafePath) as error:
            log.warning("cannot delete %s: %s", path, error)
            done = False
    return done
