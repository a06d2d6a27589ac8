"""Runs side by side."""

from typing import NotRequired, TypedDict

from client.results.history import Series
from client.results.jobs import Job, Status


class ComparedJob(TypedDict):
    name: str
    status: Status
    keys: dict[str, Series]
    drop_after: NotRequired[int | None]
    """Of an answer to `since`: forget the points of later steps, then put in those of `keys`."""


class Comparison(TypedDict):
    jobs: dict[str, ComparedJob]
    """By id, in the order in which they were asked for."""
    cursor: NotRequired[str | None]
    """What to send as `since` next time, with the same jobs."""


class ComparedRun(Job):
    """A job as it is compared: `spec` is there."""

    keys: list[str]
    """Of what it measured."""
    gpus: int | None
    """What it asks for; 0 is a CPU, None is one GPU where there is any."""


class Clock(TypedDict):
    """What a run had taken by the end of step `step[i]`, in seconds."""

    step: list[int]
    wall_seconds: list[float]
    trained_seconds: list[float]


class CommonPrompt(TypedDict):
    """A row of the training data and what each run made of it, in the order of the jobs."""

    row: int
    prompt: str
    samples: list[int]
    correct: list[int]
    reward: list[float]


class CommonPrompts(TypedDict):
    jobs: list[str]
    prompts: list[CommonPrompt]
    has_more: bool
