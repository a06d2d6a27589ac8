"""Jobs as the API shows them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from api.openapi import example
from store.demand import Demand
from store.models import Job
from store.queue import QueueInfo
from store.status import JobStatus
from store.wait_reasons import Code
from trainer.spec import JobSpec
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
    "max_attempts": 3,
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
    "model": "builtin/tiny-arith",
    "preset": "asymgrpo",
    "labels": [],
    "tags": ["baseline"],
    "accuracy": 0.41,
    "used_seconds": 3.1,
    "gpu_seconds": 3.1,
    "created_by": "key_01jz8xq9w8e7r6t5y4u3i2o1pa",
    "owner": "ci",
}


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds the character U+0000")
    return text


def _each_once(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20,](?:[^\x00-\x1f,]{0,62}[^\x00-\x20,])?$")]
"""1 to 64 characters without commas, control characters, and spaces at its ends."""
Tags = Annotated[list[Tag], Field(max_length=32), AfterValidator(_each_once)]
Notes = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_storable)]


class JobIn(JobSpec):
    """A job spec, and beside it what people say of the job: that is not part of the spec, and can be edited later."""

    tags: Tags = Field(default=[])
    notes: Notes = ""

    @property
    def spec(self) -> JobSpec:
        """The spec alone."""
        return JobSpec.model_validate(self.model_dump(exclude={"tags", "notes"}))


class JobPatch(BaseModel):
    """A JSON merge patch (RFC 7386): what is not named stays, null takes away."""

    model_config = example(
        {"name": "beta_neg 0.4", "tags": ["baseline", "paper"], "notes": "the seed of table 2"}, extra="forbid"
    )

    name: Name = ""
    """Cannot be taken away."""
    tags: Tags | None = []
    notes: Notes | None = ""

    def given(self) -> dict[str, Any]:
        """What is to change, and to what."""
        empty: dict[str, Any] = {"tags": [], "notes": ""}
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: empty[name] if value is None else value for name, value in values.items()}


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
    max_attempts: int
    """So many may be lost to the infrastructure."""
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
    model: str
    """The model id of its spec."""
    preset: str
    """The algorithm.preset of its spec."""
    labels: list[str]
    """What it asks of a worker."""
    tags: list[str]
    accuracy: float | None
    """Of the last step's rollouts; null before the first."""
    used_seconds: float
    """On workers, of all attempts; charged as leases are renewed, so a little behind."""
    gpu_seconds: float
    """The same, each second as often as it held GPUs; 0 on CPUs."""
    created_by: str
    """The key that made it."""
    owner: str
    """That key's name."""

    @classmethod
    def of(cls, job: Job, owners: Mapping[str, str]) -> Self:
        """owners: the names of keys, by id."""
        return cls.model_validate(_fields(job, owners))


class JobOut(JobSummary):
    """A job."""

    model_config = example(
        {
            **JOB_EXAMPLE,
            "notes": "",
            "spec": {"name": "first-run", "model": {"id": "builtin/tiny-arith"}},
            "preflight": None,
        }
    )

    spec: dict[str, Any]
    """Resolved: the preset and every default filled in. Its `name` stays what it was when the job was created."""
    notes: str
    preflight: PreflightReport | None
    """Null before it is done, and where the spec asks for none."""

    @classmethod
    def with_queue(cls, job: Job, owners: Mapping[str, str], info: QueueInfo | None) -> Self:
        queue = None if info is None else QueueOut.of(info)
        whole = {"spec": job.spec, "notes": job.notes, "preflight": job.preflight, "queue": queue}
        return cls.model_validate({**_fields(job, owners), **whole})


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


def _fields(job: Job, owners: Mapping[str, str]) -> dict[str, Any]:
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
        *("id", "name", "status", "attempt", "max_attempts", "created_at", "started_at", "finished_at"),
        *("failure", "pause_reason", "used_seconds", "gpu_seconds"),
        *("cloned_from", "retry_of", "model", "preset", "tags", "accuracy", "created_by"),
    )
    return {
        **{name: getattr(job, name) for name in names},
        "progress": progress,
        "eta_seconds": eta,
        "labels": list(Demand.parse(job.demand).labels),
        "owner": owners[job.created_by],
    }
