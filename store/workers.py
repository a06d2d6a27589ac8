"""The workers: who is there, with what, and when it was last heard from."""

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.orm import Session

from store.errors import NotFound
from store.ids import new_id
from store.models import Worker

_SILENT = text("interval '60 seconds'")


def alive() -> ColumnElement[bool]:
    """The condition for a worker that has not stopped and was heard from within a minute.

    The minute matters when no worker is left, and so no sweeper, to mark the dead ones stopped.
    """
    return Worker.stopped_at.is_(None) & (Worker.heartbeat_at > func.clock_timestamp() - _SILENT)


def register(session: Session, *, name: str, host: str, pid: int, gpus: int, cpu_slots: int, version: str) -> Worker:
    """A new worker process. It gets a new id each time it starts."""
    worker = Worker(id=new_id("worker"), name=name, host=host, pid=pid, gpus=gpus, cpu_slots=cpu_slots, version=version)
    session.add(worker)
    session.flush()
    return worker


def heartbeat(session: Session, worker_id: str) -> None:
    """Heard from; a worker that was taken for stopped is back. NotFound for an unknown id."""
    statement = (
        update(Worker)
        .where(Worker.id == worker_id)
        .values(heartbeat_at=func.clock_timestamp(), stopped_at=None)
        .returning(Worker.id)
    )
    if session.scalars(statement).one_or_none() is None:
        raise NotFound("worker", worker_id)


def stop(session: Session, worker_id: str) -> None:
    """The worker ends. Stopping twice changes nothing."""
    session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.stopped_at.is_(None))
        .values(stopped_at=func.clock_timestamp())
    )


def list_all(session: Session, *, include_stopped: bool = False, limit: int = 200) -> list[Worker]:
    """Newest first."""
    statement = select(Worker).order_by(Worker.id.desc()).limit(limit)
    return list(session.scalars(statement if include_stopped else statement.where(alive())))
