"""Jobs as the API shows them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from api.openapi import example
from store.models import Job
from store.queue import QueueInfo
from store.status import JobStatus
from store.wait_reasons import Code
from trainer.spec.events import PreflightReport

FAILURE_EXAMPLE = {
    "kind": "user",
    "code": "loss_not_finite",
    "message": "the loss became NaN in step 17",
    "evidence": ["step 17: actor/loss nan, actor/grad_norm nan"],
}

QUEUE_EXAMPLE = {
    "position": 3,
    "wait_reason": "team limit 4 GPUs reached",
    "code": "team_gpu_limit",
    "eta_seconds": 840.0,
}

ESTIMATE_EXAMPLE = {
    "seconds_per_step": 0.22,
    "seconds": 13.2,
    "gpu_hours": 0.0,
    "runs": ["job_01jz8xa1b2c3d4e5f6g7h8j9km"],
    "scaled": False,
}

JOB_EXAMPLE = {
    "id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
    "name": "first-run",
    "status": "running",
    "attempt": 1,
    "created_at": "2026-01-15T09:31:00Z",
    "started_at": "2026-01-15T09:31:01Z",
    "finished_at": None,
    "progress": {"step": 12, "steps": 60, "seconds_per_step": 0.22, "eta_seconds": 10.6},
    "eta_seconds": 10.6,
    "failure": None,
    "pause_reason": None,
    "queue": None,
    "cloned_from": None,
    "retry_of": None,
}


class Progress(BaseModel):
    step: int
    """Steps done so far."""
    steps: int
    seconds_per_step: float | None
    """Moving average; null before the first step."""
    eta_seconds: float | None
    """Until the last step, while the job runs and its pace is known."""


class FailureOut(BaseModel):
    """Why a job failed. user: the spec, the data or the run's own numbers; retrying gives the same."""

    model_config = example(FAILURE_EXAMPLE)

    kind: Literal["user", "infrastructure"]
    code: str
    message: str
    evidence: list[str]


class PauseReasonOut(BaseModel):
    """Why the platform paused the job by itself. Once that is mended, resume goes on from the last checkpoint."""

    model_config = example({"code": "disk_full", "message": "[Errno 28] No space left on device"})

    code: str
    message: str


class QueueOut(BaseModel):
    """Where a queued job stands."""

    model_config = example(QUEUE_EXAMPLE)

    position: int
    """1 is next."""
    wait_reason: str
    """Why it does not run yet, in words."""
    code: Code
    """The same for programs."""
    eta_seconds: float | None
    """Until it starts, from measured step times; null when that cannot be told."""

    @classmethod
    def of(cls, info: QueueInfo) -> Self:
        return cls.model_validate(info, from_attributes=True)


class JobSummary(BaseModel):
    """A job as lists show it: without its spec and its place in the queue."""

    model_config = example(JOB_EXAMPLE)

    id: str
    name: str
    status: JobStatus
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    eta_seconds: float | None
    failure: FailureOut | None
    pause_reason: PauseReasonOut | None
    """Null unless the job is paused without anybody having asked for it."""
    queue: QueueOut | None = None
    """Null unless the job is queued; lists leave it null (see GET /queue)."""
    cloned_from: str | None
    """The job whose spec it was made of."""
    retry_of: str | None
    """The ended job that it goes on for."""

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls.model_validate(_fields(job))


class JobOut(JobSummary):
    """A job."""

    model_config = example(
        {**JOB_EXAMPLE, "spec": {"name": "first-run", "model": {"id": "builtin/tiny-arith"}}, "preflight": None}
    )

    spec: dict[str, Any]
    """Resolved: the preset and every default filled in."""
    preflight: PreflightReport | None
    """Null before it is done, and where the spec asks for none."""

    @classmethod
    def with_queue(cls, job: Job, info: QueueInfo | None) -> Self:
        queue = None if info is None else QueueOut.of(info)
        return cls.model_validate({**_fields(job), "spec": job.spec, "preflight": job.preflight, "queue": queue})


class EstimateOut(BaseModel):
    """What the job will take, told from the team's own last runs of the same model; evaluations, the model's load and
    the wait in the queue come on top."""

    model_config = example(ESTIMATE_EXAMPLE)

    seconds_per_step: float
    seconds: float
    """Of all its steps."""
    gpu_hours: float
    runs: list[str]
    """The jobs that it is told from."""
    scaled: bool
    """Some of them sampled another number of rollouts in a step, and their pace was scaled by that."""


class Validation(BaseModel):
    """What creating the job would give."""

    model_config = example(
        {
            "spec": {"name": "first-run", "model": {"id": "builtin/tiny-arith", "dtype": "auto"}},
            "queue": {"position": 1, "wait_reason": "about to start", "code": "starting", "eta_seconds": 0.0},
            "estimate": ESTIMATE_EXAMPLE,
            "warnings": [],
        }
    )

    spec: dict[str, Any]
    """Resolved: the preset and every default filled in."""
    queue: QueueOut
    """Where it would stand if it were created now."""
    estimate: EstimateOut | None
    """Null where the team has measured no step of this model yet."""
    warnings: list[str]
    """What is allowed and probably not meant."""


def _fields(job: Job) -> dict[str, Any]:
    eta = None
    if job.status is JobStatus.RUNNING and job.seconds_per_step is not None:
        eta = max(job.steps - job.step, 0) * job.seconds_per_step
    progress = {
        "step": job.step,
        "steps": job.steps,
        "seconds_per_step": job.seconds_per_step,
        "eta_seconds": eta,
    }
    names = (
        *("id", "name", "status", "attempt", "created_at", "started_at", "finished_at", "failure", "pause_reason"),
        *("cloned_from", "retry_of"),
    )
    return {**{name: getattr(job, name) for name in names}, "progress": progress, "eta_seconds": eta}
