"""Tidies after jobs that have ended or were deleted: the files that nothing needs, then the rows of deleted jobs. So
do requests to sample that were answered a while ago, or never.

What is to be done is in the database (store.removal), so a worker that dies in the middle leaves it for the next, and
two at once do each other no harm. Runs beside the supervisor and never delays a job.
"""

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from store import removal, samplers, sweep_rules
from store.artifacts import Artifacts, job_path
from store.database import Database
from store.removal import Untidy
from worker.retention import delete_folders

log = logging.getLogger(__name__)

_AT_ONCE = 100


class Tidying:
    """A thread that looks every `seconds`."""

    def __init__(self, database: Database, artifacts: Artifacts, seconds: float) -> None:
        self._database = database
        self._artifacts = artifacts
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidying", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; what is under way is left to the next worker when this process ends."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                tidy(self._database, self._artifacts, self._stopping)
                with self._database.transaction() as session:
                    sweep_rules.keep_rules(session)
                with self._database.transaction() as session:
                    samplers.tidy(session)
            except SQLAlchemyError as error:
                log.warning("cannot tidy now: %s", str(error).partition("\n")[0])


def tidy(database: Database, artifacts: Artifacts, stopping: threading.Event) -> None:
    """Everything there is to do now."""
    with database.transaction() as session:
        found = removal.untidy(session, _AT_ONCE)
    for each in found:
        if stopping.is_set():
            return
        (_remove if each.deleted else _tidy_ended)(database, artifacts, each)


def _tidy_ended(database: Database, artifacts: Artifacts, ended: Untidy) -> None:
    with database.transaction() as session:
        kept = removal.kept_checkpoints(session, ended.job_id)
    on_disk = artifacts.checkpoints_on_disk(ended.job_id, artifacts.attempts_on_disk(ended.job_id))
    if delete_folders(artifacts, on_disk - kept):
        with database.transaction() as session:
            removal.mark_tidied(session, ended.job_id)


def _remove(database: Database, artifacts: Artifacts, deleted: Untidy) -> None:
    if not delete_folders(artifacts, [job_path(deleted.job_id)]):
        return
    done = False
    while not done:
        with database.transaction() as session:
            done = removal.delete_rows(session, deleted.job_id)
    log.info("%s is deleted", deleted.job_id)
