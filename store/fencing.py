"""The fence: a write of an attempt that no longer holds its job is refused in the transaction that would make it."""

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from store.errors import LeaseLost
from store.models import Job
from store.status import LEASED


def lock(session: Session, job_id: str) -> Job | None:
    """The job's row, locked until the transaction ends, without its spec."""
    statement = select(Job).where(Job.id == job_id).with_for_update().options(defer(Job.spec, raiseload=True))
    return session.scalars(statement.execution_options(populate_existing=True)).one_or_none()


def hold(session: Session, job_id: str, attempt: int) -> Job:
    """The job's row, locked, for the attempt that holds it; LeaseLost for any other.

    A lease that has run out but that nobody has taken away still counts: taking it away needs the same lock.
    """
    job = lock(session, job_id)
    if job is None or job.attempt != attempt or job.status not in LEASED:
        raise LeaseLost(f"attempt {attempt} no longer holds {job_id}")
    return job
