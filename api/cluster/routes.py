"""/queue, /workers, /models, /presets: what the platform has and what waits for it."""

from datetime import datetime
from typing import Any, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel

from api import model_catalog
from api.auth import Caller
from api.jobs.schemas import QueueOut
from api.openapi import example, problems
from api.paging import After, Limit, Page, page
from api.state import State
from store import jobs, workers
from store.models import Worker
from store.queue import queue_info
from store.status import JobStatus
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.presets import PRESETS

router = APIRouter(tags=["platform"], responses=problems())


class QueuedJob(BaseModel):
    """A queued job of the team and where it stands among everyone's."""

    model_config = example(
        {
            "id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
            "name": "gsm8k-asym",
            "priority": 0,
            "queued_at": "2026-01-15T09:31:00Z",
            "queue": {"position": 3, "wait_reason": "slots_taken", "eta_seconds": 840.0},
        }
    )

    id: str
    name: str
    priority: int
    queued_at: datetime
    queue: QueueOut


class WorkerOut(BaseModel):
    """A worker that was heard from lately."""

    model_config = example(
        {
            "id": "worker_01jz8x...",
            "name": "node-3",
            "host": "node-3.local",
            "gpus": 8,
            "cpu_slots": 2,
            "version": "0.1.0",
            "started_at": "2026-01-15T08:00:00Z",
            "heartbeat_at": "2026-01-15T09:31:05Z",
        }
    )

    id: str
    name: str
    host: str
    gpus: int
    cpu_slots: int
    """How many jobs without a GPU it runs at once."""
    version: str
    started_at: datetime
    heartbeat_at: datetime

    @classmethod
    def of(cls, worker: Worker) -> Self:
        return cls.model_validate(worker, from_attributes=True)


class ModelOut(BaseModel):
    """A model that a job may start from."""

    model_config = example({"id": "builtin/tiny-arith", "source": "builtin"})

    id: str
    source: Literal["builtin", "path", "hf"]


class PresetOut(BaseModel):
    """A named algorithm."""

    model_config = example({"name": "asymgrpo", "algorithm": {"preset": "asymgrpo", "beta_pos": 0.9, "beta_neg": 0.4}})

    name: str
    algorithm: dict[str, Any]
    """The whole `algorithm` section that it stands for."""


@router.get("/queue")
def get_queue(state: State, caller: Caller, limit: Limit = 50, after: After = None) -> Page[QueuedJob]:
    """The team's queued jobs, newest first; each with its place among the jobs of all teams."""
    with state.database.transaction() as session:
        rows = jobs.list_page(session, caller, limit + 1, after, [JobStatus.QUEUED])
        # A job may have been claimed since the list was read; it has no place any more.
        standing = [(job, info) for job in rows if (info := queue_info(session, job)) is not None]

    def shown(row: tuple[Any, Any]) -> QueuedJob:
        job, info = row
        return QueuedJob(
            id=job.id, name=job.name, priority=job.priority, queued_at=job.queued_at, queue=QueueOut.of(info)
        )

    return page(standing, limit, shown, lambda row: row[0].id)


@router.get("/workers")
def list_workers(state: State, caller: Caller) -> Page[WorkerOut]:
    """The workers that are there, newest first."""
    with state.database.transaction() as session:
        rows = workers.list_all(session)
    return page(rows, len(rows), WorkerOut.of, lambda worker: worker.id)


@router.get("/models")
def list_models(state: State, caller: Caller) -> Page[ModelOut]:
    """The models of this platform; besides, `job/JOB_ID@STEP` names a checkpoint of one's own jobs.

    Each can be trained whole or with a LoRA adapter (`model.lora` of the job spec).
    """
    entries = model_catalog.available(state.settings)
    return page(entries, len(entries), lambda entry: ModelOut(id=entry.id, source=entry.source), lambda entry: entry.id)


@router.get("/presets")
def list_presets(caller: Caller) -> Page[PresetOut]:
    """The named algorithms with every field they stand for."""
    shown = [
        PresetOut(name=name, algorithm=AlgorithmSpec.model_validate({"preset": name}).model_dump(mode="json"))
        for name in PRESETS
    ]
    return Page(data=shown, has_more=False, next=None)
