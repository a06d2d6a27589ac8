"""What becomes of requests to sample when the sampler that was to answer them is given back or ends."""

from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from store.database import notify_after_commit
from store.models import Job, Sampling, SamplingPart
from store.status import LEASED, TERMINAL, JobStatus

ANSWERS_CHANNEL = "asym_sampling"
"""Postgres notifications on it carry the id of a request whose answer has grown."""

_LOST = {
    "kind": "infrastructure",
    "code": "sampler_lost",
    "message": "what was sampling from the model was lost or told to leave in the middle of the answer: send the "
    "request again",
}
_GONE = {
    "kind": "user",
    "code": "model_gone",
    "message": "the checkpoint is being deleted, and nothing samples from it any more",
}


def settle(session: Session, job: Job) -> None:
    """The sampler, whose row is locked, has just got another status. What it was answering fails unless it goes on, or
    unless nothing of the answer is there yet; once it has failed or was cancelled, what waited for it does, too. One
    that has ended is nobody's to look at."""
    if job.status in LEASED:
        return
    if job.status is JobStatus.QUEUED:
        put_back(session, job.id)
    if job.status is JobStatus.FAILED and job.failure is not None:
        _fail(session, Sampling.sampler_id == job.id, job.failure)
    elif job.status is JobStatus.CANCELLED:
        _fail(session, Sampling.sampler_id == job.id, _GONE)
    _fail(session, (Sampling.sampler_id == job.id) & (Sampling.status == "running"), _LOST)
    if job.status in TERMINAL:
        job.deleted_at = job.finished_at
        session.flush()


def put_back(session: Session, job_id: str) -> None:
    """What the sampler has taken and said nothing of waits again, as if it had not been taken."""
    begun = select(SamplingPart.sampling_id).where(SamplingPart.sampling_id == Sampling.id)
    session.execute(
        update(Sampling)
        .where(Sampling.sampler_id == job_id, Sampling.status == "running", ~begun.exists())
        .values(status="waiting", attempt=None)
        .execution_options(synchronize_session=False)
    )


def _fail(session: Session, which: ColumnElement[bool], failure: dict[str, Any]) -> None:
    failed = session.scalars(
        update(Sampling)
        .where(which, Sampling.finished_at.is_(None))
        .values(
            status="failed",
            error={each: failure[each] for each in ("kind", "code", "message")},
            finished_at=func.clock_timestamp(),
        )
        .returning(Sampling.id)
        .execution_options(synchronize_session=False)
    ).all()
    for sampling_id in failed:
        notify_after_commit(session, ANSWERS_CHANNEL, sampling_id)
