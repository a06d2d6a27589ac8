"""A job's journal: state changes and what else is appended to its history, and the notification that tells of it.

Whoever calls these has locked the job's row in this transaction, so that a job's event ids grow in commit order and a
reader who polls by id misses nothing.
"""

import re
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from store import sampling_ends
from store.database import notify_after_commit
from store.errors import Conflict
from store.models import Base, Job, JobEvent
from store.status import TERMINAL, TRANSITIONS, JobStatus

JOBS_CHANNEL = "asym_job"
"""Postgres notifications on it carry the id of a job whose history has grown."""

_APPEND = insert(Base.metadata.tables[JobEvent.__tablename__])
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

T = TypeVar("T")
EventType = Literal["message", "state", "preflight", "step", "eval", "checkpoint"]


def event_row(
    job_id: str, attempt: int, type: EventType, message: str, data: dict[str, Any], level: str = "info"
) -> dict[str, Any]:
    """One row of job_events."""
    return {
        "job_id": job_id,
        "attempt": attempt,
        "level": level,
        "type": type,
        "message": storable(message),
        "data": storable(data),
    }


def append(session: Session, rows: list[dict[str, Any]]) -> None:
    """Append rows of `event_row` in this order."""
    if rows:
        session.execute(_APPEND, rows)


def announce(session: Session, job_id: str) -> None:
    """Tell listeners, once this transaction commits, that the job's history has grown."""
    notify_after_commit(session, JOBS_CHANNEL, job_id)


def move(session: Session, job: Job, to: JobStatus, message: str, data: dict[str, Any] | None = None) -> None:
    """Change a locked job's status, journal and announce it. Conflict for a move that is not allowed."""
    if to not in TRANSITIONS[job.status]:
        raise Conflict(f"{job.id} is {job.status} and cannot become {to}")
    job.status = to
    if to is not JobStatus.PAUSED:
        job.pause_reason = None
    if to not in (JobStatus.PAUSING, JobStatus.CANCELLING):
        job.lease_until = job.leased_gpus = job.charged_at = None
    if to in (JobStatus.QUEUED, JobStatus.PAUSED):
        job.worker_id = None
    if to in TERMINAL:
        job.finished_at = session.scalar(select(func.clock_timestamp()))
    session.flush()
    level = "error" if to is JobStatus.FAILED else "warning" if job.pause_reason else "info"
    append(session, [event_row(job.id, job.attempt, "state", message, {"status": to.value, **(data or {})}, level)])
    announce(session, job.id)
    if job.kind == "serve":
        sampling_ends.settle(session, job)


def storable(value: T) -> T:
    """The value without what Postgres cannot hold: NUL characters and lone surrogates, both shown as U+FFFD."""
    # Model output is any sequence of code points; losing a whole batch to one of them would be worse.
    clean: Any = value
    if isinstance(value, str):
        clean = _UNSTORABLE.sub("\ufffd", value)
    elif isinstance(value, dict):
        clean = {storable(key): storable(item) for key, item in value.items()}
    elif isinstance(value, list):
        clean = [storable(item) for item in value]
    return cast(T, clean)
