"""A job's checkpoints: which can be started from, which are kept, and which files may go.

A row is marked deleted before its files go, so nothing ever starts from a checkpoint that is half gone.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from store.errors import NotFound
from store.fencing import hold
from store.models import Checkpoint, Job
from store.status import TERMINAL
from trainer.spec.job import CheckpointSpec


@dataclass(frozen=True)
class StoredCheckpoint:
    step: int
    path: str
    """Relative to the artifact root."""


@dataclass(frozen=True)
class Pruned:
    """Paths, relative to the artifact root."""

    marked: set[str]
    """Marked deleted now: their files may go."""
    kept: set[str]


def usable() -> ColumnElement[bool]:
    """The condition under which a checkpoint's files are there and belong to the run as it went on."""
    return Checkpoint.deleted_at.is_(None) & Checkpoint.superseded_at.is_(None)


def newest_first(session: Session, job_id: str) -> list[StoredCheckpoint]:
    """All of a job that a new attempt may go on from: the next is for when a manifest does not verify."""
    rows = session.execute(
        select(Checkpoint.step, Checkpoint.path)
        .where(Checkpoint.job_id == job_id, usable())
        .order_by(Checkpoint.step.desc())
    )
    return [StoredCheckpoint(step, path) for step, path in rows]


def of_model(session: Session, team_id: str, job_id: str, step: int) -> StoredCheckpoint:
    """The checkpoint that a model id `job/JOB_ID@STEP` of the team's job means. NotFound when it is gone."""
    path = session.scalars(
        select(Checkpoint.path)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Job.id == job_id, Job.team_id == team_id, Checkpoint.step == step, usable())
    ).one_or_none()
    if path is None:
        raise NotFound("checkpoint", f"{job_id}@{step}")
    return StoredCheckpoint(step, path)


def forget(session: Session, job_id: str, attempt: int, path: str) -> None:
    """Nothing may start again from the checkpoint at `path`, which the attempt was to go on from.

    It may be that of the job which this one continues. LeaseLost when the attempt no longer holds its job.
    """
    job = hold(session, job_id, attempt)
    session.execute(
        update(Checkpoint)
        .where(
            Checkpoint.job_id.in_([job_id, *([job.continues] if job.continues else [])]),
            Checkpoint.path == path,
            Checkpoint.deleted_at.is_(None),
        )
        .values(deleted_at=func.clock_timestamp())
    )


def prune(session: Session, job_id: str, attempt: int) -> Pruned:
    """Mark deleted what is superseded or outside what the spec's `checkpoint` section keeps.

    LeaseLost when the attempt no longer holds the job, so that an attempt that was replaced deletes nothing.
    """
    hold(session, job_id, attempt)
    return prune_locked(session, job_id)


def prune_locked(session: Session, job_id: str) -> Pruned:
    """`prune` for whoever has locked the job's row.

    What a job that has not ended is to begin with (model id `job/JOB_ID@STEP`) stays as well.
    """
    keep = CheckpointSpec.model_validate(session.scalars(select(Job.spec["checkpoint"]).where(Job.id == job_id)).one())
    rows = session.scalars(
        select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.deleted_at.is_(None)).order_by(Checkpoint.step)
    ).all()
    standing = {row.step: row.score for row in rows if row.superseded_at is None}
    steps = keep.retained(standing) | {step for step in standing if needed_by(session, f"{job_id}@{step}")}
    marked = [row for row in rows if row.step not in steps]
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.job_id == job_id, Checkpoint.step.in_([row.step for row in marked]))
        .values(deleted_at=func.clock_timestamp())
    )
    return Pruned({row.path for row in marked}, {row.path for row in rows if row.step in steps})


def needed_by(session: Session, base_checkpoint: str) -> str | None:
    """A job that has not ended and begins with this checkpoint (`JOB_ID@STEP`)."""
    statement = select(Job.id).where(Job.base_checkpoint == base_checkpoint, Job.status.not_in(TERMINAL)).limit(1)
    return session.scalars(statement).first()
