"""Jobs that go: taken out of sight at once, then tidied from the disk and from the tables by whichever worker comes.

A job that ended is tidied once: what its last attempt left and nothing can start from is deleted. A deleted job loses
its folder and then its rows. Every step may be done twice, by two workers at once, or be cut off in the middle: the
row says what is left to do until all of it is done.
"""

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, defer

from store import checkpoints, samplers
from store.access import Identity, Scope, find, require
from store.errors import Conflict
from store.fencing import lock
from store.models import Checkpoint, Job
from store.status import TERMINAL

_ROWS = 10_000
"""How many rows of a deleted job go in one transaction: a long run has millions."""
_DELETE_SOME = [
    text(f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE job_id = :job_id LIMIT :rows))")  # noqa: S608 - constants
    for table in (
        *("rollouts", "job_metric_chunks", "job_metric_supersessions", "job_metrics"),
        *("job_logs", "job_events", "checkpoints"),
    )
]


@dataclass(frozen=True)
class Untidy:
    """An ended job with something left to do."""

    job_id: str
    deleted: bool


def request_delete(session: Session, identity: Identity, job_id: str) -> None:
    """Take an ended job out of sight. Conflict while it has not ended, or while another job is to begin with it."""
    require(identity, Scope.JOBS_WRITE)
    job = find(session, identity, Job, job_id, lock=True, options=[defer(Job.spec, raiseload=True)])
    if job.status not in TERMINAL:
        raise Conflict(f"{job_id} is {job.status}: cancel it and wait for its end before you delete it")
    of_it = Job.base_checkpoint.in_(
        select(func.concat(Checkpoint.job_id, "@", Checkpoint.step)).where(Checkpoint.job_id == job_id)
    )
    user = session.scalars(
        select(Job.id)
        .where(Job.kind == "train", Job.status.not_in(TERMINAL), (Job.continues == job_id) | of_it)
        .limit(1)
    ).first()
    if user is not None:
        raise Conflict(f"{user} goes on from a checkpoint of {job_id}: cancel it, or wait for its end")
    samplers.end_those(session, of_it)
    job.deleted_at = session.scalar(select(func.clock_timestamp()))
    # The key may be used again, and a failed job may be retried anew: this one is not there any more.
    job.idempotency_key = job.idempotency_hash = job.retry_of = None
    session.flush()


def untidy(session: Session, limit: int) -> list[Untidy]:
    """Ended jobs that have not been tidied, and deleted ones. Oldest first."""
    rows = session.execute(
        select(Job.id, Job.deleted_at.is_not(None))
        .where(Job.status.in_(TERMINAL), Job.tidied_at.is_(None) | Job.deleted_at.is_not(None))
        .order_by(Job.id)
        .limit(limit)
    )
    return [Untidy(job_id, deleted) for job_id, deleted in rows]


def kept_checkpoints(session: Session, job_id: str) -> set[str]:
    """Paths of the checkpoints that stay of a job that has ended; all others are marked deleted."""
    job = lock(session, job_id)
    if job is None or job.status not in TERMINAL or job.deleted_at is not None:
        return set()
    return checkpoints.prune_locked(session, job_id).kept


def mark_tidied(session: Session, job_id: str) -> None:
    job = lock(session, job_id)
    if job is not None:
        job.tidied_at = session.scalar(select(func.clock_timestamp()))


def delete_rows(session: Session, job_id: str) -> bool:
    """Delete some rows of a deleted job, at last its own. True when nothing of it is left."""
    job = lock(session, job_id)
    if job is None:
        return True
    if job.deleted_at is None:
        raise Conflict(f"{job_id} was not deleted")
    for statement in _DELETE_SOME:
        if session.execute(statement, {"job_id": job_id, "rows": _ROWS}).rowcount:  # type: ignore[attr-defined]
            return False
    session.delete(job)
    return True
