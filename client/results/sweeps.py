"""Sweeps."""

from typing import Any, TypedDict

from client.results.jobs import Status


class SweepSummary(TypedDict):
    id: str
    name: str
    created_at: str
    members: int
    statuses: dict[str, int]
    """How many of its jobs have which status."""
    ended_because: str | None


class SweepMember(TypedDict):
    number: int
    job_id: str | None
    """None when it was deleted."""
    name: str | None
    status: Status | None
    step: int | None
    steps: int | None
    point: dict[str, Any]
    """What it has of its own, by path."""
    seed: int
    last: float | None
    best: float | None
    best_step: int | None
    stopped_because: str | None
    """Why the sweep's rule ended it early."""


class Combination(TypedDict):
    """Members that differ in their seeds only: means, and standard deviations over them."""

    point: dict[str, Any]
    members: int
    measured: int
    last: float | None
    last_spread: float | None
    best: float | None
    best_spread: float | None


class Sweep(SweepSummary):
    plan: dict[str, Any]
    metric: str
    used_hours: float
    jobs: list[SweepMember]
    combinations: list[Combination]
    """The best first."""
