"""The workers: who is there, with what, and when it was last heard from."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TypedDict

from sqlalchemy import ColumnElement, case, func, select, text, update
from sqlalchemy.orm import Session

from store.errors import NotFound
from store.ids import new_id
from store.jobs import WITHOUT_SPEC
from store.models import Job, Worker
from store.status import LEASED
from store.tenancy import platform_view

_SILENT = text("interval '60 seconds'")
_SHOWN_LOST = text("interval '1 day'")


class WorkerState(StrEnum):
    ALIVE = "alive"
    DRAINING = "draining"
    """It is leaving: it takes no more jobs and gives back those it has."""
    LOST = "lost"
    """Not heard from. Its jobs are given to others; it may come back."""


class Device(TypedDict):
    """A GPU of a worker."""

    name: str | None
    memory_gb: int | None
    """In units of 10^9 bytes, rounded: an 80 GB card has 86. None where it could not be read."""


def _silent() -> ColumnElement[bool]:
    """Not heard from for a minute, which matters when no worker is left, and so no sweeper, to mark the lost ones."""
    return Worker.lost_at.is_not(None) | (Worker.heartbeat_at <= func.clock_timestamp() - _SILENT)


def alive() -> ColumnElement[bool]:
    """The condition for a worker that is heard from and takes jobs."""
    return Worker.stopped_at.is_(None) & Worker.draining_at.is_(None) & ~_silent()


def register(
    session: Session,
    *,
    name: str,
    host: str,
    pid: int,
    gpus: int,
    cpu_slots: int,
    version: str,
    devices: Sequence[Device] = (),
    labels: Sequence[str] = (),
) -> Worker:
    """A new worker process. It gets a new id each time it starts. `devices`: its GPUs, as far as they are known."""
    worker = Worker(
        id=new_id("worker"),
        name=name,
        host=host,
        pid=pid,
        gpus=gpus,
        cpu_slots=cpu_slots,
        version=version,
        devices=[dict(device) for device in devices],
        labels=sorted(set(labels)),
    )
    session.add(worker)
    session.flush()
    return worker


def heartbeat(session: Session, worker_id: str) -> None:
    """Heard from; a worker that was taken for lost or stopped is back. NotFound for an unknown id."""
    statement = (
        update(Worker)
        .where(Worker.id == worker_id)
        .values(heartbeat_at=func.clock_timestamp(), lost_at=None, stopped_at=None)
        .returning(Worker.id)
    )
    if session.scalars(statement).one_or_none() is None:
        raise NotFound("worker", worker_id)


def drain(session: Session, worker_id: str) -> None:
    """The worker begins to leave."""
    session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.draining_at.is_(None))
        .values(draining_at=func.clock_timestamp())
    )


def stop(session: Session, worker_id: str) -> None:
    """The worker ends. Stopping twice changes nothing."""
    session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.stopped_at.is_(None))
        .values(stopped_at=func.clock_timestamp())
    )


def mark_lost(session: Session, silent_seconds: float) -> None:
    """Those that were not heard from for so long, until they are again."""
    silence = func.make_interval(0, 0, 0, 0, 0, 0, silent_seconds)
    now = func.clock_timestamp()
    session.execute(
        update(Worker)
        .where(Worker.stopped_at.is_(None), Worker.lost_at.is_(None), Worker.heartbeat_at < now - silence)
        .values(lost_at=now)
    )


def list_all(session: Session, *, include_stopped: bool = False, limit: int = 200) -> list[Worker]:
    """Newest first: those that are there, and those lost within a day."""
    recent = Worker.heartbeat_at > func.clock_timestamp() - _SHOWN_LOST
    statement = select(Worker).order_by(Worker.id.desc()).limit(limit)
    shown = statement if include_stopped else statement.where(Worker.stopped_at.is_(None), recent)
    return list(session.scalars(shown))


def states(session: Session, worker_ids: Sequence[str]) -> dict[str, WorkerState]:
    """How it stands with each, by the database's clock."""
    state = case((_silent(), WorkerState.LOST), (Worker.draining_at.is_not(None), WorkerState.DRAINING))
    rows = session.execute(select(Worker.id, state).where(Worker.id.in_(worker_ids)))
    return {id: WorkerState(found or WorkerState.ALIVE) for id, found in rows}


def running_jobs(session: Session, worker_ids: Sequence[str]) -> list[Job]:
    """What they run, oldest claim first; without `spec`."""
    statement = select(Job).where(Job.worker_id.in_(worker_ids), Job.status.in_(LEASED)).order_by(Job.id)
    with platform_view(session):
        return list(session.scalars(statement.options(WITHOUT_SPEC)))
