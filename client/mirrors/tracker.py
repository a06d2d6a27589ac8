"""What a mirror asks of a tracker, and how a row of metrics becomes numbers that every tracker takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from client.results import Job


@dataclass(frozen=True)
class Point:
    """What was measured at one step."""

    step: int
    at: float
    """Unix seconds."""
    values: Mapping[str, float]


class TrackedRun(Protocol):
    """One job's run in a tracker. Whatever its methods raise is the tracker's failure and is tried again later."""

    def log(self, points: Sequence[Point]) -> None:
        """Points in the order they were written; a step may come again with more of its keys, never with fewer."""

    def close(self, status: str | None) -> None:
        """Everything logged is safe on return. status: how the job ended; None: it goes on, or another mirror does."""


class Tracker(Protocol):
    keeps: bool
    """Whether what `log` has returned from outlives a killed process; else only what `close` has."""

    def open(self, job: Job, run: str) -> TrackedRun:
        """The run of that name: made, or gone on with. `job` as `GET /jobs/{id}` shows it."""

    def discard(self, run: str) -> None:
        """This run shows a past that was taken back, or half of one; another takes its place."""


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Metric values as single numbers. An undefined one (null) is no point; a list's parts are `KEY/0`, `KEY/1`, ...

    >>> numbers({"a": 1, "b": None, "c": [0.5, None]})
    {'a': 1.0, 'c/0': 0.5}
    """
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers({f"{key}/{name}": part for name, part in value.items()})
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found |= numbers({f"{key}/{number}": part for number, part in enumerate(value)})
        elif isinstance(value, int | float):
            found[key] = float(value)
    return found


def flat(spec: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """A job's spec by the paths of its fields, as sweeps name them.

    >>> flat({"optim": {"lr": 0.001}, "seed": 3, "eval": []})
    {'optim.lr': 0.001, 'seed': 3, 'eval': []}
    """
    found: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{under}{name}.")
        else:
            found[f"{under}{name}"] = value
    return found
