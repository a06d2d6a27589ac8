"""What a comparison is drawn over: steps, or what a run had used by the end of a step."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.results import Clock
from dashboard.curves import Columns, values

STEP, TIME, TOKENS, ROLLOUTS, GPU_SECONDS = "step", "time", "tokens", "rollouts", "GPU-seconds"
AXES = (STEP, TIME, TOKENS, ROLLOUTS, GPU_SECONDS)
EXPLAINED = {
    STEP: "Training steps",
    TIME: "Time since the run was started, with its waits and pauses",
    TOKENS: "Response tokens trained on since the beginning",
    ROLLOUTS: "Rollouts sampled since the beginning",
    GPU_SECONDS: "Seconds of training steps times GPUs; a run on a CPU counts as on one",
}
_MEASURED = {TOKENS: "progress/tokens", ROLLOUTS: "progress/prompts"}


def measured_by(axis: str) -> list[str]:
    """The metric keys that the axis needs."""
    return [_MEASURED[axis]] if axis in _MEASURED else []


def needs_clock(axis: str) -> bool:
    return axis in (TIME, GPU_SECONDS)


@dataclass(frozen=True)
class Positions:
    """Where a step lies on the axis: known at some steps, straight in between; before the first and after the last
    with the pace there."""

    steps: Sequence[int]
    at: Sequence[float]

    def of(self, step: int) -> float | None:
        if not self.steps:
            return None
        if len(self.steps) == 1:
            return self.at[0] * step / self.steps[0] if self.steps[0] else self.at[0]
        right = min(max(bisect_right(self.steps, step), 1), len(self.steps) - 1)
        low, high = self.steps[right - 1], self.steps[right]
        share = (step - low) / (high - low)
        return max(0.0, self.at[right - 1] + share * (self.at[right] - self.at[right - 1]))


Place = Callable[[int], float | None]


def places(axis: str, columns: Columns, clock: Clock | None, spec: Mapping[str, Any], gpus: int | None) -> Place:
    """Step -> position on the axis, in its unit (seconds for times); None where it is not known."""
    if axis == STEP:
        return float
    if axis in _MEASURED:
        steps, found = values(columns, _MEASURED[axis])
        size = int(spec.get("rollout", {}).get("group_size", 1)) if axis == ROLLOUTS else 1
        pairs = [(step, float(value) * size) for step, value in zip(steps, found, strict=True) if value is not None]
    elif clock is None:
        pairs = []
    elif axis == TIME:
        pairs = list(zip(clock["step"], clock["wall_seconds"], strict=True))
    else:
        slots = max(1, gpus or 1)
        pairs = [(step, slots * each) for step, each in zip(clock["step"], clock["trained_seconds"], strict=True)]
    if pairs and pairs[0][0] > 0:
        pairs.insert(0, (0, 0.0))
    return Positions([step for step, _ in pairs], [at for _, at in pairs]).of


def unit(axis: str, longest: float) -> tuple[str, float]:
    """(label, what to divide by): long times are told in minutes or hours."""
    if axis != TIME:
        return axis, 1.0
    for label, seconds in (("hours", 3600.0), ("minutes", 60.0)):
        if longest >= 3 * seconds:
            return f"{label} since the start", seconds
    return "seconds since the start", 1.0
