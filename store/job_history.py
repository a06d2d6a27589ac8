"""What a job has written, read by its team: events, log lines, metrics, rollouts, checkpoints."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Text, cast, select, text, tuple_
from sqlalchemy.orm import Session

from store.access import Identity, find
from store.checkpoints import usable
from store.errors import NotFound
from store.jobs import WITHOUT_SPEC
from store.journal import EventType
from store.models import Checkpoint, Job, JobEvent, JobLog, JobMetric, Rollout


@dataclass(frozen=True)
class MetricRow:
    step: int
    attempt: int
    at: datetime
    values: dict[str, Any]
    """Only the keys asked for. A key that is absent was not measured at this step; None is measured and undefined."""


def events_after(
    session: Session, identity: Identity, job_id: str, after: int, limit: int, types: Collection[EventType] = ()
) -> list[JobEvent]:
    """Oldest first, those with an id above `after` (0: from the first) and of one of `types` (none given: of any)."""
    _check(session, identity, job_id)
    statement = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after)
    if types:
        statement = statement.where(JobEvent.type.in_(types))
        if "step" not in types:
            # In the index's own words, so that it is seen to hold what is asked for.
            statement = statement.where(text("type <> 'step'"))
    return list(session.scalars(statement.order_by(JobEvent.id).limit(limit)))


def events_before(session: Session, identity: Identity, job_id: str, before: int | None, limit: int) -> list[JobEvent]:
    """Newest first, those with an id below `before` (None: from the last)."""
    _check(session, identity, job_id)
    statement = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id.desc()).limit(limit)
    return list(session.scalars(statement if before is None else statement.where(JobEvent.id < before)))


def logs_after(session: Session, identity: Identity, job_id: str, after: int, limit: int) -> list[JobLog]:
    """Oldest first, those with an id above `after` (0: from the first)."""
    _check(session, identity, job_id)
    statement = select(JobLog).where(JobLog.job_id == job_id, JobLog.id > after)
    return list(session.scalars(statement.order_by(JobLog.id).limit(limit)))


def logs_last(session: Session, identity: Identity, job_id: str, count: int) -> list[JobLog]:
    """The newest `count` lines, oldest first."""
    _check(session, identity, job_id)
    statement = select(JobLog).where(JobLog.job_id == job_id).order_by(JobLog.id.desc()).limit(count)
    return list(session.scalars(statement))[::-1]


def metrics(
    session: Session,
    identity: Identity,
    job_id: str,
    keys: Sequence[str] | None = None,
    from_step: int | None = None,
    to_step: int | None = None,
) -> list[MetricRow]:
    """One row per step in order, of the steps from_step..to_step (both included). No keys: all of them."""
    _check(session, identity, job_id)
    columns = [JobMetric.values] if keys is None else [cast(JobMetric.values[key], Text) for key in keys]
    statement = select(JobMetric.step, JobMetric.attempt, JobMetric.at, *columns).where(JobMetric.job_id == job_id)
    if from_step is not None:
        statement = statement.where(JobMetric.step >= from_step)
    if to_step is not None:
        statement = statement.where(JobMetric.step <= to_step)
    rows = session.execute(statement.order_by(JobMetric.step)).all()
    if keys is None:
        return [MetricRow(step, attempt, at, values) for step, attempt, at, values in rows]
    return [
        MetricRow(
            step,
            attempt,
            at,
            {key: json.loads(found) for key, found in zip(keys, texts, strict=True) if found is not None},
        )
        for step, attempt, at, *texts in rows
    ]


def rollouts(
    session: Session,
    identity: Identity,
    job_id: str,
    *,
    step: int | None = None,
    correct: bool | None = None,
    after: tuple[int, int, int] | None = None,
    limit: int = 100,
) -> list[Rollout]:
    """By (step, group_index, sample_index), those behind `after`."""
    _check(session, identity, job_id)
    place = (Rollout.step, Rollout.group_index, Rollout.sample_index)
    statement = select(Rollout).where(Rollout.job_id == job_id).order_by(*place).limit(limit)
    if step is not None:
        statement = statement.where(Rollout.step == step)
    if correct is not None:
        statement = statement.where(Rollout.correct.is_(correct))
    if after is not None:
        statement = statement.where(tuple_(*place) > after)
    return list(session.scalars(statement))


def rollout_steps(session: Session, identity: Identity, job_id: str) -> list[int]:
    """The steps that have rollouts stored, in order."""
    _check(session, identity, job_id)
    return list(session.scalars(select(Rollout.step).where(Rollout.job_id == job_id).distinct().order_by(Rollout.step)))


def checkpoints(session: Session, identity: Identity, job_id: str) -> list[Checkpoint]:
    """By step, those that were deleted or superseded included: their rows say so."""
    _check(session, identity, job_id)
    return list(session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step)))


def usable_checkpoint(session: Session, identity: Identity, job_id: str, step: int) -> Checkpoint:
    """One whose files are there. NotFound for one that was deleted or superseded, too."""
    _check(session, identity, job_id)
    statement = select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step, usable())
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise NotFound("checkpoint", f"{job_id}@{step}")
    return found


def _check(session: Session, identity: Identity, job_id: str) -> None:
    find(session, identity, Job, job_id, options=[WITHOUT_SPEC])
