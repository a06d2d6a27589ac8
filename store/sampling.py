"""Requests to sample from a model, as the team that sends them sees them: ask, read the answer as it grows, give up.

A request waits for its team's sampler of the model, which is made with the first request that finds none; the worker's
side is store.samplers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store import samplers, usage
from store.access import Identity, Scope, find, of_team, require
from store.database import notify_after_commit
from store.demand import Demand
from store.errors import LimitReached, NotFound
from store.ids import new_id
from store.jobs import base_checkpoint, hold_checkpoint
from store.models import LIVE_SAMPLER, Job, Sampling, SamplingPart, Team
from store.policy import DEFAULT, Policy
from store.queue import queue_info
from store.status import JobStatus
from trainer.spec.sampling import SamplingRequest

MAX_CRASHES = 2
"""How many times in its life a sampler may be lost; another one is made for the next request."""


class SamplingStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Asked:
    """A request that was stored. `ring`: a worker has yet to claim its sampler (store.doorbell)."""

    id: str
    ring: bool


@dataclass(frozen=True)
class Answer:
    """What there is of an answer behind some part."""

    status: SamplingStatus
    parts: Sequence[SamplingPart]
    usage: dict[str, Any] | None
    error: dict[str, Any] | None


def ask(
    session: Session,
    identity: Identity,
    model: str,
    request: SamplingRequest,
    *,
    most_open: int,
    seconds: float,
    policy: Policy = DEFAULT,
) -> Asked:
    """Store a request, which lives for `seconds` at most, and see to it that there is a sampler of the model.

    NotFound: the team has no such checkpoint. LimitReached: as many of the team's requests are open as may be, or it
    may queue no more jobs. What else a model id may name is the caller's to check.
    """
    require(identity, Scope.JOBS_WRITE)
    if (base := base_checkpoint(model)) is not None and (reason := hold_checkpoint(session, identity, base)):
        raise NotFound("model", f"{model}: {reason}")
    # So that of two requests at once the second counts the first one.
    session.execute(select(Team.id).where(Team.id == identity.team_id).with_for_update(key_share=True))
    is_open = of_team(identity, Sampling) & Sampling.finished_at.is_(None)
    found = session.scalars(select(func.count()).select_from(Sampling).where(is_open)).one()
    if found >= most_open:
        raise LimitReached("samplings", f"{found} requests of the team are being answered or wait; it may have no more")
    sampler = _sampler(session, identity, model, base, policy)
    sampling = Sampling(
        id=new_id("smp"),
        team_id=identity.team_id,
        created_by=identity.key_id,
        model=model,
        status=SamplingStatus.WAITING.value,
        request=request.model_dump(mode="json"),
        sampler_id=sampler.id,
        expires_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
    )
    session.add(sampling)
    session.flush()
    notify_after_commit(session, samplers.REQUESTS_CHANNEL, sampler.id)
    return Asked(sampling.id, sampler.status is JobStatus.QUEUED)


def _sampler(session: Session, identity: Identity, model: str, base: str | None, policy: Policy) -> Job:
    """The team's sampler of this model, kept from ending until this transaction does; a new one where there is none."""
    live = select(Job).where(
        Job.team_id == identity.team_id, Job.model == model, Job.kind == "serve", Job.finished_at.is_(None)
    )
    while True:
        found = session.scalars(live.with_for_update(read=True)).one_or_none()
        if found is not None:
            return found
        usage.admit_job(session, identity.team_id, policy)
        demand = Demand(None)
        values = {
            "id": new_id("job"),
            "team_id": identity.team_id,
            "created_by": identity.key_id,
            "name": f"samples from {model}",
            "kind": "serve",
            "status": JobStatus.QUEUED,
            "spec": {"model": {"id": model}},
            "gpus": demand.gpus,
            "demand": str(demand),
            "model": model,
            "steps": 0,
            "max_attempts": MAX_CRASHES,
            "base_checkpoint": base,
        }
        # Another process's may have come since.
        session.execute(
            insert(Job)
            .values(values)
            .on_conflict_do_nothing(index_elements=[Job.team_id, Job.model], index_where=LIVE_SAMPLER)
        )


def read(session: Session, identity: Identity, sampling_id: str, after: int, limit: int = 500) -> Answer:
    """The parts behind part `after` (-1: all). NotFound when the request is gone, or another team's."""
    # The status first: when it is final, every part was committed before it was read.
    sampling = find(session, identity, Sampling, sampling_id)
    parts = session.scalars(
        select(SamplingPart)
        .where(
            SamplingPart.sampling_id == sampling_id,
            SamplingPart.team_id == identity.team_id,
            SamplingPart.number > after,
        )
        .order_by(SamplingPart.number)
        .limit(limit)
    ).all()
    return Answer(SamplingStatus(sampling.status), parts, sampling.usage, sampling.error)


def give_up(session: Session, identity: Identity, sampling_id: str) -> None:
    """Nobody waits for the answer any more. Once it is there this changes nothing."""
    sampling = find(session, identity, Sampling, sampling_id, lock=True)
    if sampling.finished_at is not None:
        return
    sampling.status = SamplingStatus.CANCELLED.value
    sampling.finished_at = session.scalar(select(func.clock_timestamp()))
    session.flush()
    if sampling.sampler_id is not None:
        samplers.end_unwanted(session, sampling.sampler_id)
        notify_after_commit(session, samplers.REQUESTS_CHANNEL, sampling.sampler_id)


def why_it_waits(session: Session, identity: Identity, sampling_id: str, policy: Policy = DEFAULT) -> str | None:
    """In words, why nothing answers yet: what its sampler waits for, or that the model loads. None: it has none."""
    sampling = find(session, identity, Sampling, sampling_id)
    if sampling.sampler_id is None:
        return None
    job = session.scalars(
        select(Job).where(Job.id == sampling.sampler_id, Job.team_id == identity.team_id)
    ).one_or_none()
    if job is None:
        return None
    info = queue_info(session, job, policy)
    return "the model is being loaded, or other requests come first" if info is None else info.wait_reason
