"""Between OpenAI's fine-tuning job and the platform's: a request becomes a job spec, a job's row becomes the object."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from pydantic import ValidationError

from api.openai import graders
from api.openai.job_shapes import CreateFineTuningJob, FineTuningJob, JobError, Status
from api.openai.shapes import seconds
from api.problems import Problem, all_invalid, all_missing, invalid, missing
from api.spec_errors import readable_errors
from api.state import ApiState
from store.errors import Invalid
from store.models import Dataset, Job
from store.status import JobStatus
from trainer.spec import JobSpec
from trainer.spec.changes import with_changes
from trainer.spec.dataset import DataFormat, inspect

GROUP_SIZE = 8
BATCH_SIZE = 128
LEARNING_RATES = {"builtin/tiny-arith": 3e-4}
LEARNING_RATE = 2e-6
PROMPTS = "messages"
SHOWN_LINES = 20

_FIELDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("data", "train"): ("training_file",),
    ("data", "columns"): (*graders.PLACE[1:], "reference"),
    ("eval", "0", "data"): ("validation_file",),
    ("model", "id"): ("model",),
    ("name",): ("suffix",),
    ("optim", "prompts_per_step"): ("method", "reinforcement", "hyperparameters", "batch_size"),
    ("rollout", "group_size"): ("method", "reinforcement", "hyperparameters", "compute_multiplier"),
    ("train", "steps"): ("method", "reinforcement", "hyperparameters", "n_epochs"),
}
"""Where in this request stands what stands there in the spec."""


@dataclass(frozen=True)
class File:
    field: str
    dataset: Dataset


@dataclass(frozen=True)
class Files:
    training: File
    validation: File | None

    @property
    def all(self) -> list[File]:
        return [self.training, *([self.validation] if self.validation else [])]


def no_file(field: str, file_id: str) -> Problem:
    return missing(["body", field], f"no file {file_id!r}")


def spec_of(wanted: CreateFineTuningJob, files: Files) -> JobSpec:
    """The job spec of a request. Problem 422 that names its fields."""
    graded = graders.verifier_of(wanted.method.reinforcement.grader)
    given = wanted.method.reinforcement.hyperparameters
    rows = max(files.training.dataset.rows, 1)
    batch = min(BATCH_SIZE, rows) if given.batch_size == "auto" else given.batch_size
    epoch = math.ceil(rows / batch)
    steps = epoch * (1 if given.n_epochs == "auto" else given.n_epochs)
    multiplier = 1.0 if given.learning_rate_multiplier == "auto" else given.learning_rate_multiplier
    compute = 1.0 if given.compute_multiplier == "auto" else given.compute_multiplier
    spec: dict[str, Any] = {
        "name": wanted.suffix or f"ft-{wanted.model}"[:200],
        "model": {"id": wanted.model},
        "data": {"train": wanted.training_file, "columns": _columns(files.training, graded.reference)},
        "reward": graded.reward,
        "rollout": {"group_size": max(2, round(GROUP_SIZE * compute))},
        "optim": {"lr": LEARNING_RATES.get(wanted.model, LEARNING_RATE) * multiplier, "prompts_per_step": batch},
        "train": {"steps": steps},
        "checkpoint": {"every": epoch, "keep_last": 3},
        "seed": wanted.seed or 0,
    }
    if files.validation is not None:
        spec["eval"] = [
            {
                "name": "validation",
                "data": wanted.validation_file,
                "columns": _columns(files.validation, graded.reference),
                "every": epoch if given.eval_interval == "auto" else given.eval_interval,
                "samples": 1 if given.eval_samples == "auto" else given.eval_samples,
            }
        ]
    merged = with_changes(spec, wanted.asym or {})
    try:
        return JobSpec.model_validate(merged)
    except ValidationError as error:
        raise all_invalid(readable_errors(error.errors(), merged)) from error


def check_reference(state: ApiState, files: Files, spec: JobSpec) -> None:
    """Problem 422 when a row has not the field that the grader names. Which it is, nobody knew at the upload."""
    columns = [spec.data.columns, *(benchmark.columns for benchmark in spec.eval)]
    for file, wanted in zip(files.all, columns, strict=False):
        dataset = file.dataset
        if wanted.answer is None or wanted.answer in dataset.columns:
            continue
        path = state.artifacts.dataset_path(dataset.sha256, dataset.format)
        report = inspect(path, cast(DataFormat, dataset.format), wanted)
        if not report.ok:
            lines = ", ".join(str(error.line) for error in report.errors[:SHOWN_LINES])
            first = report.errors[0]
            raise invalid(
                [*graders.PLACE, "reference"],
                f"{report.error_count} rows of {dataset.id} cannot be graded by {wanted.answer!r} (lines {lines}); the "
                f"first: {first.field}: {first.msg}",
            )


def said_beside(wanted: CreateFineTuningJob) -> dict[str, Any]:
    """What a job keeps of the request, to show it again as it was."""
    return {
        "method": wanted.method.model_dump(mode="json", exclude_none=True),
        "metadata": wanted.metadata or {},
    }


@contextmanager
def in_openai_terms() -> Iterator[None]:
    """Errors name the fields of this request and not those of the job spec that was made of it."""
    try:
        yield
    except Invalid as error:
        raise all_missing(_renamed([dict(each) for each in error.errors])) from error
    except Problem as error:
        again = {(422, "invalid"): all_invalid, (404, "not-found"): all_missing}.get((error.status, error.code))
        if again is None or not error.errors:
            raise
        raise again(_renamed([dict(each) for each in error.errors])) from error


def shown(job: Job) -> FineTuningJob:
    """A job, whose `spec` and `facade` are loaded or can be, as OpenAI's object."""
    spec, said = job.spec, job.facade or {}
    validation = next(iter(spec["eval"]), None)
    return FineTuningJob(
        id=job.id,
        created_at=seconds(job.created_at),
        finished_at=None if job.finished_at is None else seconds(job.finished_at),
        estimated_finish=_estimated_finish(job),
        error=None if job.failure is None else JobError(code=job.failure["code"], message=job.failure["message"]),
        # A job that succeeds writes a checkpoint after its last step.
        fine_tuned_model=f"job/{job.id}@{job.step}" if job.status is JobStatus.SUCCEEDED else None,
        metadata=said.get("metadata", {}),
        method=said.get("method") or _method_of(spec),
        model=job.model,
        organization_id=job.team_id,
        seed=spec["seed"],
        status=_status(job.status),
        training_file=spec["data"]["train"],
        validation_file=None if validation is None else validation["data"],
    )


def _columns(file: File, reference: str) -> dict[str, str]:
    # A file that was uploaded with prompts of another form keeps them.
    return {"answer": reference, **({"prompt": PROMPTS} if PROMPTS in file.dataset.columns else {})}


def _method_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Of a job that was made as a job spec."""
    return {
        "type": "reinforcement",
        "reinforcement": {
            "grader": graders.grader_of(spec["reward"], (spec["data"].get("columns") or {}).get("answer")),
            "hyperparameters": {"batch_size": spec["optim"]["prompts_per_step"]},
        },
    }


def _status(status: JobStatus) -> Status:
    return "running" if status is JobStatus.CANCELLING else cast(Status, status.value)


def _estimated_finish(job: Job) -> int | None:
    if job.status is not JobStatus.RUNNING or job.seconds_per_step is None:
        return None
    return seconds(job.updated_at + timedelta(seconds=max(job.steps - job.step, 0) * job.seconds_per_step))


def _renamed(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**error, "loc": _place(error["loc"])} if "loc" in error else error for error in errors]


def _place(loc: list[str | int]) -> list[str | int]:
    if not loc or loc[0] != "body":
        return loc
    written = tuple(map(str, loc[1:]))
    for there, here in _FIELDS.items():
        if written[: len(there)] == there:
            return ["body", *here]
    return loc
