"""/queue, /workers, /models, /presets: what the platform has and what waits for it."""

from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api import conditional, model_catalog
from api.auth import Caller
from api.jobs.schemas import QUEUE_EXAMPLE, QueueOut
from api.openapi import example, problems
from api.paging import After, Limit, Page, page
from api.state import State
from store import jobs, reservations, workers
from store.models import Job, Worker
from store.queue import standings
from store.status import JobStatus
from store.workers import WorkerState
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.presets import PRESETS

router = APIRouter(tags=["platform"], responses=problems())


class WorkerRow(NamedTuple):
    """What is shown of one worker, and to whom."""

    worker: Worker
    state: WorkerState
    team_id: str
    jobs: list[Job]
    kept_for: int | None


class QueuedJob(BaseModel):
    """A queued job of the team and where it stands among everyone's."""

    model_config = example(
        {
            "id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
            "name": "gsm8k-asym",
            "priority": 0,
            "queued_at": "2026-01-15T09:31:00Z",
            "queue": QUEUE_EXAMPLE,
        }
    )

    id: str
    name: str
    priority: int
    queued_at: datetime
    queue: QueueOut


class DeviceOut(BaseModel):
    """A GPU."""

    name: str | None
    memory_gb: int | None
    """In 10^9 bytes, rounded. Null where the worker could not read it; then `gpu_memory` of a job is not met."""


class RunningJob(BaseModel):
    """A job of the caller's team that the worker runs."""

    id: str
    name: str
    gpus: int
    """How many of the worker's; 0: a CPU slot."""


class WorkerOut(BaseModel):
    """A worker."""

    model_config = example(
        {
            "id": "worker_01jz8x...",
            "name": "node-3",
            "host": "node-3.local",
            "state": "alive",
            "gpus": 2,
            "cpu_slots": 2,
            "devices": [{"name": "NVIDIA H100 80GB HBM3", "memory_gb": 86}] * 2,
            "labels": ["h100"],
            "busy_gpus": 1,
            "busy_cpu_slots": 0,
            "jobs": [{"id": "job_01jz8xa1b2c3d4e5f6g7h8j9km", "name": "gsm8k-asym", "gpus": 1}],
            "kept_for": None,
            "version": "0.1.0",
            "started_at": "2026-01-15T08:00:00Z",
            "heartbeat_at": "2026-01-15T09:31:05Z",
        }
    )

    id: str
    name: str
    host: str
    state: WorkerState
    """alive; draining: it is leaving; lost: not heard from, shown for a day."""
    gpus: int
    cpu_slots: int
    """How many jobs without a GPU it runs at once."""
    devices: list[DeviceOut]
    labels: list[str]
    """What a job's `resources.labels` may ask for."""
    busy_gpus: int
    """Of everyone's jobs."""
    busy_cpu_slots: int
    jobs: list[RunningJob]
    """The caller's team's; other teams' are only counted."""
    kept_for: int | None
    """GPUs of the waiting job for which this worker's GPUs are kept free (docs/queue.md)."""
    version: str
    started_at: datetime
    heartbeat_at: datetime

    @classmethod
    def of(cls, row: WorkerRow) -> Self:
        worker, mine = row.worker, [job for job in row.jobs if job.team_id == row.team_id]
        names = ("id", "name", "host", "gpus", "cpu_slots", "devices", "labels", "version", "started_at")
        return cls.model_validate(
            {
                **{name: getattr(worker, name) for name in names},
                "heartbeat_at": worker.heartbeat_at,
                "state": row.state,
                "busy_gpus": sum(job.leased_gpus or 0 for job in row.jobs),
                "busy_cpu_slots": sum(job.leased_gpus == 0 for job in row.jobs),
                "jobs": [RunningJob(id=job.id, name=job.name, gpus=job.leased_gpus or 0) for job in mine],
                "kept_for": row.kept_for,
            }
        )


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


@router.get("/queue", response_model=Page[QueuedJob], responses=conditional.NOT_MODIFIED)
def get_queue(
    state: State,
    caller: Caller,
    response: Response,
    limit: Limit = 50,
    after: After = None,
    if_none_match: conditional.IfNoneMatch = None,
) -> Page[QueuedJob] | Response:
    """The team's queued jobs, newest first; each with its place among the jobs of all teams."""
    tag = conditional.tag_of(caller, "queue", limit, after, conditional.moment(state))
    if conditional.holds(if_none_match, tag):
        return conditional.not_modified(tag)
    conditional.mark(response, tag)
    with state.database.transaction() as session:
        rows = jobs.list_page(session, caller, limit + 1, after, [JobStatus.QUEUED])
        places = standings(session, rows, state.policy)
        # A job may have been claimed since the list was read; it has no place any more.
        standing = [(job, places[job.id]) for job in rows if job.id in places]

    def shown(row: tuple[Any, Any]) -> QueuedJob:
        job, info = row
        return QueuedJob(
            id=job.id, name=job.name, priority=job.priority, queued_at=job.queued_at, queue=QueueOut.of(info)
        )

    return page(standing, limit, shown, lambda row: row[0].id)


@router.get("/workers", response_model=Page[WorkerOut], responses=conditional.NOT_MODIFIED)
def list_workers(
    state: State, caller: Caller, response: Response, if_none_match: conditional.IfNoneMatch = None
) -> Page[WorkerOut] | Response:
    """The workers, newest first, with what they run; those that were lost stay for a day."""
    tag = conditional.tag_of(caller, "workers", conditional.moment(state))
    if conditional.holds(if_none_match, tag):
        return conditional.not_modified(tag)
    conditional.mark(response, tag)
    with state.database.transaction() as session:
        found = workers.list_all(session)
        ids = [worker.id for worker in found]
        states = workers.states(session, ids)
        running = workers.running_jobs(session, ids)
        kept = reservations.kept_gpus(session)
    rows = [
        WorkerRow(
            worker,
            states[worker.id],
            caller.team_id,
            [job for job in running if job.worker_id == worker.id],
            kept.get(worker.id),
        )
        for worker in found
    ]
    return page(rows, len(rows), WorkerOut.of, lambda row: row.worker.id)


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
