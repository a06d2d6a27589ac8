"""Samplers: jobs of kind `serve`, each of which holds one model loaded for one team and answers its requests.

They are claimed, leased, charged and taken away like any job (store.leases), and are nobody's to see (store.access).
Here is what is theirs alone, on the side of the worker: which requests are next, what was answered, and their end,
which is no failure: idle, or in the way of somebody who waits. The team's side is store.sampling.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.orm import Session

from store.database import notify_after_commit
from store.fencing import hold
from store.journal import move, storable
from store.models import Job, Sampling
from store.policy import DEFAULT, Policy
from store.sampling_ends import ANSWERS_CHANNEL, put_back
from store.status import TERMINAL, JobStatus
from store.usage import charge
from trainer.spec.events import Sampled

REQUESTS_CHANNEL = "asym_sampler"
"""Postgres notifications on it carry the id of a sampler that has something to look at."""

_KEPT = text("interval '10 minutes'")
"""For how long an answered request is kept: its reader may be slow."""
_AT_ONCE = 500


@dataclass(frozen=True)
class Look:
    """What a sampler's worker finds."""

    taken: list[tuple[str, dict[str, Any]]]
    """Requests to answer from now on: (id, trainer.spec.sampling.SamplingRequest)."""
    open: frozenset[str]
    """Of those in hand, which are still to be answered."""
    waiting: bool
    """More of them wait."""
    others_wait: bool
    """A job waits that could have this slot."""


_OTHERS_WAIT = text("""
SELECT EXISTS (
    SELECT FROM jobs AS other, jobs AS own JOIN workers ON workers.id = own.worker_id
    WHERE own.id = :id AND other.status = 'queued' AND other.queued_at < clock_timestamp() - interval '1 second'
      AND string_to_array(split_part(other.demand, '/', 3), ',') <@ workers.labels
      AND CASE split_part(other.demand, '/', 1)
          WHEN 'auto' THEN least(workers.gpus, 1) = least(own.leased_gpus, 1)
          WHEN '0' THEN own.leased_gpus = 0
          ELSE own.leased_gpus > 0 AND CAST(split_part(other.demand, '/', 1) AS int) <= workers.gpus END
)
""")
_NEXT = text("""
UPDATE samplings SET status = 'running', attempt = :attempt
WHERE id IN (
    SELECT id FROM samplings
    WHERE team_id = :team_id AND model = :model AND status = 'waiting' AND sampler_id = :id
      AND expires_at > clock_timestamp()
    ORDER BY id LIMIT :room FOR UPDATE SKIP LOCKED
)
RETURNING id, request
""")


def look(session: Session, job_id: str, attempt: int, in_hand: Sequence[str], room: int) -> Look:
    """What there is to do, taking at most `room` requests. LeaseLost when the attempt no longer holds the sampler."""
    still = session.scalars(select(Sampling.id).where(Sampling.id.in_(in_hand), Sampling.status == "running"))
    is_open = frozenset(still) if in_hand else frozenset()
    others_wait = bool(session.scalar(_OTHERS_WAIT, {"id": job_id}))
    if not _requests_wait(session, job_id):
        return Look([], is_open, False, others_wait)
    taken: list[tuple[str, dict[str, Any]]] = []
    if room > 0:
        job = hold(session, job_id, attempt)
        given = {"id": job_id, "attempt": attempt, "team_id": job.team_id, "model": job.model, "room": room}
        taken = sorted((row.id, row.request) for row in session.execute(_NEXT, given))
    return Look(taken, is_open, _requests_wait(session, job_id), others_wait)


def _requests_wait(session: Session, job_id: str) -> bool:
    waiting = select(Sampling.id).where(
        Sampling.sampler_id == job_id, Sampling.status == "waiting", Sampling.expires_at > func.clock_timestamp()
    )
    return bool(session.scalar(select(waiting.exists())))


_PARTS = text("""
INSERT INTO sampling_parts (sampling_id, number, team_id, deltas)
SELECT samplings.id, part.number, samplings.team_id, part.deltas
FROM jsonb_to_recordset(CAST(:parts AS jsonb)) AS part (id text, number int, deltas jsonb)
JOIN samplings ON samplings.id = part.id
WHERE samplings.sampler_id = :job_id AND samplings.attempt = :attempt AND samplings.status = 'running'
ON CONFLICT DO NOTHING
""")
_LAST = text("""
UPDATE samplings SET
    status = CASE WHEN last.error IS NULL THEN 'done' ELSE 'failed' END, usage = last.usage, error = last.error,
    finished_at = clock_timestamp()
FROM jsonb_to_recordset(CAST(:last AS jsonb)) AS last (id text, usage jsonb, error jsonb)
WHERE samplings.id = last.id AND samplings.sampler_id = :job_id AND samplings.attempt = :attempt
  AND samplings.status = 'running'
""")


def answer(session: Session, job_id: str, attempt: int, sampled: Sequence[Sampled]) -> None:
    """Store parts of answers, for whoever holds the sampler's lock. What nobody waits for any more is passed over."""
    told = [storable(each.model_dump(mode="json", exclude_none=True)) for each in sampled]
    held = {"job_id": job_id, "attempt": attempt}
    parts = [
        {"id": each["request"], "number": each["number"], "deltas": each["deltas"]} for each in told if each["deltas"]
    ]
    if parts:
        session.execute(_PARTS, held | {"parts": json.dumps(parts)})
    last = [
        {"id": each["request"], "usage": each.get("usage"), "error": each.get("error")}
        for each in told
        if "usage" in each or "error" in each
    ]
    if last:
        session.execute(_LAST, held | {"last": json.dumps(last)})
        notify_after_commit(session, REQUESTS_CHANNEL, job_id)
    for sampling_id in dict.fromkeys(each.request for each in sampled):
        notify_after_commit(session, ANSWERS_CHANNEL, sampling_id)


def end(session: Session, job_id: str, attempt: int, policy: Policy = DEFAULT) -> JobStatus:
    """The sampler has stopped in good order. Where requests came meanwhile it goes behind those jobs that wait now;
    else it is done with. LeaseLost when the attempt no longer holds it.

    Its row is locked: a request that comes now waits for this, and then asks for another sampler.
    """
    charge(session, job_id, attempt, policy)
    job = hold(session, job_id, attempt)
    put_back(session, job_id)
    if job.status is JobStatus.CANCELLING:
        move(session, job, JobStatus.CANCELLED, "cancelled")
    elif _requests_wait(session, job_id):
        job.queued_at = session.scalars(select(func.clock_timestamp())).one()
        move(session, job, JobStatus.QUEUED, "queued again: requests wait")
    else:
        move(session, job, JobStatus.SUCCEEDED, "done with: no request waits")
    return job.status


def end_those(session: Session, which: ColumnElement[bool]) -> None:
    """Samplers whose model goes: at once where no worker has one, else when its worker hears of it."""
    found = select(Job).where(Job.kind == "serve", Job.status.not_in(TERMINAL), which).with_for_update()
    for job in session.scalars(found).all():
        _end(session, job)


def end_unwanted(session: Session, job_id: str) -> None:
    """A sampler that no worker has, and for which no request waits, need not begin."""
    found = select(Job).where(Job.id == job_id, Job.kind == "serve", Job.status == JobStatus.QUEUED).with_for_update()
    job = session.scalars(found).one_or_none()
    if job is not None and not _requests_wait(session, job_id):
        _end(session, job)


def _end(session: Session, job: Job) -> None:
    if job.status is JobStatus.QUEUED:
        move(session, job, JobStatus.CANCELLED, "cancelled")
    elif job.status is JobStatus.RUNNING:
        move(session, job, JobStatus.CANCELLING, "cancel requested")
        notify_after_commit(session, REQUESTS_CHANNEL, job.id)


def tidy(session: Session) -> None:
    """Requests past their time fail, and those answered a while ago go."""
    now = func.clock_timestamp()
    late = session.execute(
        update(Sampling)
        .where(Sampling.finished_at.is_(None), Sampling.expires_at < now)
        .values(
            status="failed",
            error={"kind": "infrastructure", "code": "too_late", "message": "no answer within the time of a request"},
            finished_at=now,
        )
        .returning(Sampling.id, Sampling.sampler_id)
    ).all()
    for sampling_id, _ in late:
        notify_after_commit(session, ANSWERS_CHANNEL, sampling_id)
    for sampler_id in sorted({sampler_id for _, sampler_id in late if sampler_id is not None}):
        end_unwanted(session, sampler_id)
    old = select(Sampling.id).where(Sampling.finished_at < now - _KEPT).limit(_AT_ONCE)
    session.execute(delete(Sampling).where(Sampling.id.in_(old)))
