"""The fine-tuning job, its events and checkpoints, as OpenAI writes them; and the request that makes one."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.openai.graders import Grader
from api.openai.shapes import Metadata, seconds, storable
from api.openapi import example
from store.models import Checkpoint, JobEvent

Status = Literal["queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(storable)]

_GRADER = {
    "type": "string_check",
    "name": "right",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
_METHOD = {
    "type": "reinforcement",
    "reinforcement": {"grader": _GRADER, "hyperparameters": {"n_epochs": 2, "batch_size": 16}},
}

CREATE_EXAMPLES: dict[str, Any] = {
    "tiny": {
        "summary": "Two minutes on a CPU: a 0.9 M-parameter model learns arithmetic",
        "value": {
            "model": "builtin/tiny-arith",
            "training_file": "ds_01jz8x6v5p3q2r1s0t9w8y7zab",
            "method": _METHOD,
            "suffix": "sums",
            "metadata": {"team": "reasoning"},
            "asym": {"rollout": {"max_new_tokens": 8}},
        },
    }
}

_JOB_EXAMPLE = {
    "id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
    "object": "fine_tuning.job",
    "created_at": 1768469460,
    "finished_at": None,
    "estimated_finish": 1768469520,
    "error": None,
    "fine_tuned_model": None,
    "hyperparameters": {},
    "integrations": [],
    "metadata": {"team": "reasoning"},
    "method": _METHOD,
    "model": "builtin/tiny-arith",
    "organization_id": "team_01jz8xm...",
    "result_files": [],
    "seed": 0,
    "status": "running",
    "trained_tokens": None,
    "training_file": "ds_01jz8x6v5p3q2r1s0t9w8y7zab",
    "validation_file": None,
}


class Hyperparameters(BaseModel):
    """`auto`, or nothing, leaves a value to Asym (docs/openai.md says what it takes)."""

    model_config = ConfigDict(extra="forbid")

    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = "auto"
    """Prompts of a step."""
    n_epochs: Auto | Annotated[int, Field(ge=1, le=10_000)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = "auto"
    """Times the model's usual learning rate."""
    compute_multiplier: Auto | Annotated[float, Field(gt=0, le=512, allow_inf_nan=False)] = "auto"
    """Times 8 responses to each prompt."""
    eval_interval: Auto | Count = "auto"
    """Steps."""
    eval_samples: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Responses to each prompt of the validation file."""
    reasoning_effort: Literal["default"] = "default"
    """The models here know no other."""


class Reinforcement(BaseModel):
    model_config = ConfigDict(extra="forbid")

    grader: Grader
    hyperparameters: Hyperparameters = Hyperparameters()
    response_format: None = None
    """Structured output is not enforced here."""


class Method(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["reinforcement"]
    """Supervised fine-tuning and DPO are not offered here."""
    reinforcement: Reinforcement


class CreateFineTuningJob(BaseModel):
    """A reinforcement fine-tuning job."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(storable)]
    """A model id of GET /v1/models, or `job/JOB_ID@STEP`."""
    training_file: Id
    method: Method
    validation_file: Id | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(storable)] | None = None
    """The job's name."""
    metadata: Metadata | None = None
    integrations: Annotated[list[dict[str, Any]], Field(max_length=0)] | None = None
    """None are offered here."""
    asym: dict[str, Any] | None = None
    """Beyond OpenAI's shape: a part of a job spec that is laid over what the rest of the request comes to."""


class JobError(BaseModel):
    code: str
    message: str
    param: str | None = None


class FineTuningJob(BaseModel):
    """A job. `GET /jobs/{id}` shows the same one, with all that it is made of."""

    model_config = example(_JOB_EXAMPLE)

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    error: JobError | None
    fine_tuned_model: str | None
    """Of a job that has succeeded: a model id to start another job from."""
    hyperparameters: dict[str, Any] = {}
    """Empty: they are in `method`."""
    integrations: list[dict[str, Any]] = []
    metadata: dict[str, str]
    method: dict[str, Any]
    model: str
    organization_id: str
    result_files: list[str] = []
    """Empty: metrics are at GET /jobs/{id}/metrics."""
    seed: int
    status: Status
    """`pausing` and `paused` beside OpenAI's; a job that is being cancelled is still `running`."""
    trained_tokens: None = None
    training_file: str
    validation_file: str | None


class EventObject(BaseModel):
    """Something that happened to a job."""

    model_config = example(
        {
            "id": "ftevent-412",
            "object": "fine_tuning.job.event",
            "created_at": 1768469464,
            "level": "info",
            "type": "metrics",
            "message": "step 3 of 60",
            "data": {"step": 3, "metrics": {"reward/mean": 0.34}},
        }
    )

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    type: Literal["message", "metrics"]
    message: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        level: Any = "warn" if event.level == "warning" else event.level
        return cls(
            id=f"ftevent-{event.id}",
            created_at=seconds(event.at),
            level=level,
            type="metrics" if event.type in ("step", "eval") else "message",
            message=event.message,
            data=event.data,
        )


class CheckpointObject(BaseModel):
    """A checkpoint that can be started from."""

    model_config = example(
        {
            "id": "ftckpt-job_01jz8xa1b2c3d4e5f6g7h8j9km-20",
            "object": "fine_tuning.job.checkpoint",
            "created_at": 1768469490,
            "fine_tuned_model_checkpoint": "job/job_01jz8xa1b2c3d4e5f6g7h8j9km@20",
            "fine_tuning_job_id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
            "metrics": {"step": 20},
            "step_number": 20,
        }
    )

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    """`step`, and where the job keeps the best checkpoint `score`; the rest is at GET /jobs/{id}/metrics."""
    step_number: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        score = {} if checkpoint.score is None else {"score": checkpoint.score}
        return cls(
            id=f"ftckpt-{checkpoint.job_id}-{checkpoint.step}",
            created_at=seconds(checkpoint.created_at),
            fine_tuned_model_checkpoint=f"job/{checkpoint.job_id}@{checkpoint.step}",
            fine_tuning_job_id=checkpoint.job_id,
            metrics={"step": float(checkpoint.step), **score},
            step_number=checkpoint.step,
        )
