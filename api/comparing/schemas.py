"""What a comparison is told of its jobs."""

from typing import Any

from pydantic import BaseModel

from api.jobs.schemas import JOB_EXAMPLE, JobSummary
from api.openapi import example

_RUN: dict[str, Any] = {
    **JOB_EXAMPLE,
    "spec": {"name": "first-run", "model": {"id": "builtin/tiny-arith"}, "seed": 0},
    "keys": ["entropy/informative", "group/accuracy", "reward/mean"],
    "gpus": 1,
}
_CLOCK = {"step": [127, 255], "wall_seconds": [40.2, 81.9], "trained_seconds": [38.4, 77.1]}
_JOBS = [_RUN["id"], "job_01jz8xb2c3d4e5f6g7h8j9kmnp"]
_PROMPT = {"row": 481, "prompt": "12+34=", "samples": [16, 8], "correct": [12, 2], "reward": [0.75, 0.25]}


class ComparedRun(JobSummary):
    """A job as it is compared: with its resolved spec and the keys of what it measured."""

    model_config = example(_RUN)

    spec: dict[str, Any]
    keys: list[str]
    gpus: int | None
    """What it asks for; 0 is a CPU, null is one GPU where there is any."""


class ComparedRuns(BaseModel):
    model_config = example({"jobs": {_RUN["id"]: _RUN}})

    jobs: dict[str, ComparedRun]
    """By id, in the order in which they were asked for."""


class ClockOut(BaseModel):
    """What a run had taken by the end of step `step[i]`, in seconds."""

    model_config = example(_CLOCK)

    step: list[int]
    wall_seconds: list[float]
    """Since it was started, waiting and pauses included."""
    trained_seconds: list[float]
    """In its steps up to there; those that were taken back do not count."""


class Clocks(BaseModel):
    model_config = example({"jobs": {_RUN["id"]: _CLOCK}})

    jobs: dict[str, ClockOut]


class CommonPrompt(BaseModel):
    """A row of the training data, and what each run made of it, in the order of the jobs."""

    model_config = example(_PROMPT)

    row: int
    prompt: str
    """Its beginning."""
    samples: list[int]
    """Rollouts of it that are stored."""
    correct: list[int]
    reward: list[float]
    """Mean of their rewards."""


class CommonPrompts(BaseModel):
    model_config = example(
        {"jobs": [_RUN["id"], "job_01jz8xb2c3d4e5f6g7h8j9kmnp"], "prompts": [_PROMPT], "has_more": False}
    )

    jobs: list[str]
    prompts: list[CommonPrompt]
    has_more: bool
