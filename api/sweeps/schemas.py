"""What requests about sweeps bring and what they are answered."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from api.openapi import example
from store.models import Sweep
from store.status import JobStatus
from store.sweeps import Combination, Standing

PLAN_EXAMPLES: dict[str, Any] = {
    "grid": {
        "summary": "The paper's two exponents, three seeds each",
        "value": {
            "name": "betas",
            "base": {
                "model": {"id": "builtin/tiny-arith"},
                "data": {"train": "ds_01jz8x6v5p3q2r1s0t9w8y7zab"},
                "reward": {"kind": "exact"},
                "rollout": {"max_new_tokens": 6},
                "optim": {"lr": 3e-4, "prompts_per_step": 32},
                "train": {"steps": 60},
            },
            "search": {
                "kind": "grid",
                "parameters": {"algorithm.beta_pos": [0.0, 0.3, 0.6, 0.9], "algorithm.beta_neg": [0.0, 0.2, 0.4]},
            },
            "seeds": [0, 1, 2],
        },
    },
    "random": {
        "summary": "Learning rates drawn on a log scale; hopeless runs end early, all together take two hours",
        "value": {
            "name": "rates",
            "base": {"model": {"id": "builtin/tiny-arith"}, "data": {"train": "ds_..."}, "reward": {"kind": "exact"}},
            "search": {
                "kind": "random",
                "samples": 20,
                "parameters": {"optim.lr": {"low": 1e-5, "high": 1e-2, "scale": "log"}},
            },
            "early_stopping": {"after_steps": 20},
            "budget": {"hours": 2},
        },
    },
}

_ID = "sweep_01jz8xa1b2c3d4e5f6g7h8j9km"
_POINT = {"algorithm.beta_pos": 0.9, "algorithm.beta_neg": 0.4}
_SUMMARY = {
    "id": _ID,
    "name": "betas",
    "created_at": "2026-01-15T09:30:00Z",
    "members": 36,
    "statuses": {"succeeded": 12, "running": 2, "queued": 22},
    "ended_because": None,
}


class SweepSummary(BaseModel):
    """A sweep as lists show it."""

    model_config = example(_SUMMARY)

    id: str
    name: str
    created_at: datetime
    members: int
    statuses: dict[str, int]
    """How many of its jobs have which status; deleted ones have none."""
    ended_because: str | None
    """Why no more of it is to run: it was cancelled, or its budget is used up. Null otherwise."""

    @classmethod
    def of(cls, sweep: Sweep, members: int, statuses: dict[str, int]) -> Self:
        return cls(
            id=sweep.id,
            name=sweep.name,
            created_at=sweep.created_at,
            members=members,
            statuses=statuses,
            ended_because=sweep.ended_because,
        )


class SweepMemberOut(BaseModel):
    """One job of a sweep."""

    number: int
    job_id: str | None
    """Null when it was deleted. A retry takes the place of the job it goes on for."""
    name: str | None
    status: JobStatus | None
    step: int | None
    steps: int | None
    point: dict[str, Any]
    """What it has of its own, by path."""
    seed: int
    last: float | None
    """The newest value of the sweep's metric."""
    best: float | None
    best_step: int | None
    stopped_because: str | None
    """Why the sweep's rule ended it early."""

    @classmethod
    def of(cls, each: Standing) -> Self:
        job = each.job
        return cls(
            number=each.member.number,
            job_id=None if job is None else job.id,
            name=None if job is None else job.name,
            status=None if job is None else job.status,
            step=None if job is None else job.step,
            steps=None if job is None else job.steps,
            point=each.member.point,
            seed=each.member.seed,
            last=each.last,
            best=each.best,
            best_step=each.best_step,
            stopped_because=each.member.stopped_because,
        )


class CombinationOut(BaseModel):
    """The members that differ in their seeds only."""

    point: dict[str, Any]
    members: int
    measured: int
    """How many of them have measured the metric."""
    last: float | None
    """The mean of their newest values."""
    last_spread: float | None
    """Its standard deviation over seeds (n - 1); null with fewer than two."""
    best: float | None
    """The mean of their best values."""
    best_spread: float | None


class SweepOut(SweepSummary):
    """A sweep with its plan, its members and how they do."""

    model_config = example(
        {
            **_SUMMARY,
            "plan": {"name": "betas", "search": {"kind": "grid", "parameters": {"algorithm.beta_pos": [0.0, 0.9]}}},
            "metric": "group/accuracy",
            "used_hours": 0.41,
            "jobs": [
                {
                    "number": 0,
                    "job_id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
                    "name": "betas-beta_pos0.9-beta_neg0.4-seed0",
                    "status": "succeeded",
                    "step": 60,
                    "steps": 60,
                    "point": _POINT,
                    "seed": 0,
                    "last": 0.58,
                    "best": 0.61,
                    "best_step": 57,
                    "stopped_because": None,
                }
            ],
            "combinations": [
                {
                    "point": _POINT,
                    "members": 3,
                    "measured": 3,
                    "last": 0.57,
                    "last_spread": 0.02,
                    "best": 0.6,
                    "best_spread": 0.01,
                }
            ],
        }
    )

    plan: dict[str, Any]
    """Resolved: defaults filled in."""
    metric: str
    used_hours: float
    """By all of its jobs: of GPUs, or of running where a job has none."""
    jobs: list[SweepMemberOut]
    """In the plan's order."""
    combinations: list[CombinationOut]
    """The best first, by the mean of their best values."""

    @classmethod
    def whole(
        cls,
        sweep: Sweep,
        used_hours: float,
        members: Sequence[Standing],
        combinations: Sequence[Combination],
    ) -> Self:
        statuses: dict[str, int] = {}
        for each in members:
            if each.job is not None:
                statuses[str(each.job.status)] = statuses.get(str(each.job.status), 0) + 1
        return cls(
            **SweepSummary.of(sweep, len(members), statuses).model_dump(),
            plan=sweep.plan,
            metric=sweep.plan["metric"],
            used_hours=used_hours,
            jobs=[SweepMemberOut.of(each) for each in members],
            combinations=[CombinationOut.model_validate(each, from_attributes=True) for each in combinations],
        )
