"""Is it learning, is it exploring, does it get a gradient, why did it stop: a run in a few sentences.

Computed from what the page has of the run's metrics and from nothing else. A change is called one only where it is
larger than twice its standard error, or where a benchmark's intervals do not meet; what was not measured, or is
undefined, is said to be so. Pure functions.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dashboard import curves, wording
from dashboard.alerts import Alert
from dashboard.curves import Columns

Tone = Literal["good", "bad", "plain"]

WINDOW = 10
"""Of so many values at each end the mean is taken (of a quarter of all, where that is less): single steps are noise."""
CERTAIN = 2.0
"""Standard errors that a change must exceed."""
MUCH_WITHOUT = 0.5
"""Share of groups without a gradient from which on the sentence is a warning."""

KEYS = [
    *("group/accuracy", "reward/mean", "entropy/policy", "entropy/informative", "entropy/spurious"),
    *("group/effective", "group/mixed", "group/none_solved", "group/all_solved"),
]


About = Literal["Is it learning?", "Is it exploring?", "Do its groups teach?", "Where does it stand?"]


CHANNELS = (("informative", "correct"), ("spurious", "incorrect"))


class Sentence(NamedTuple):
    about: About
    tone: Tone
    head: str
    """The answer in a word or two."""
    text: str


@dataclass(frozen=True)
class Change:
    """From the mean of the first few defined values of a metric to that of the last few."""

    start: float
    end: float
    error: float
    """Standard error of the difference; 0 where it cannot be told."""
    steps: tuple[int, int]
    window: int

    @property
    def difference(self) -> float:
        return self.end - self.start

    @property
    def certain(self) -> bool:
        return self.window > 1 and abs(self.difference) > CERTAIN * self.error

    @property
    def direction(self) -> int:
        """1 up, -1 down, 0 where that cannot be told from noise."""
        return 0 if not self.certain else 1 if self.difference > 0 else -1


def change(columns: Columns, key: str) -> Change | None:
    """None where fewer than two values are defined."""
    found = [
        (step, float(value)) for step, value in zip(*curves.values(columns, key), strict=True) if value is not None
    ]
    if len(found) < 2:
        return None
    window = max(1, min(WINDOW, len(found) // 4))
    first, last = [value for _, value in found[:window]], [value for _, value in found[-window:]]
    error = 0.0
    if window > 1:
        error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / window)
    return Change(statistics.fmean(first), statistics.fmean(last), error, (found[0][0], found[-1][0]), window)


def verdict(
    job: Mapping[str, Any], columns: Columns, alerts: Sequence[Alert], benchmarks: Sequence[tuple[str, int]] = ()
) -> list[Sentence]:
    """benchmarks: (name, k) of those whose pass@k is to be told."""
    if job["progress"]["step"] < 1:
        return [_state(job)]
    return [_learning(columns, benchmarks), _exploring(columns, alerts), _gradient(columns), _state(job)]


def _learning(columns: Columns, benchmarks: Sequence[tuple[str, int]]) -> Sentence:
    seen, show, name = change(columns, "group/accuracy"), wording.percent, "accuracy on the training prompts"
    if seen is None:
        seen, show, name = change(columns, "reward/mean"), wording.number, "mean reward"
    directions: list[int] = []
    parts: list[str] = []
    if seen is not None:
        directions.append(seen.direction)
        parts.append(f"{name} {_move(seen.start, seen.end, show)} over steps {seen.steps[0]} to {seen.steps[1]}")
    for benchmark, k in benchmarks:
        key = f"eval/{benchmark}/pass_at_k/{k}"
        start, end = curves.first(columns, key), curves.last(columns, key)
        if start is not None and end is not None:
            directions.append(_apart(columns, key))
            parts.append(f"{benchmark} pass@{k} {_move(float(start), float(end), wording.percent)}")
    text = "; ".join(parts)
    if seen is None:
        return Sentence("Is it learning?", "plain", "Too early to tell", text or "Fewer than two steps are measured.")
    if 1 in directions and -1 in directions:
        return Sentence("Is it learning?", "bad", "Not everywhere", text)
    if 1 in directions:
        return Sentence("Is it learning?", "good", "Learning", text)
    if -1 in directions:
        return Sentence("Is it learning?", "bad", "Getting worse", text)
    return Sentence("Is it learning?", "plain", "No clear change", f"{text}; that is within the noise")


def _apart(columns: Columns, key: str) -> int:
    """1 where a benchmark's newest interval lies above its first, -1 below, 0 where they meet or are not known."""
    ends = [(curves.first(columns, f"{key}/{end}"), curves.last(columns, f"{key}/{end}")) for end in ("low", "high")]
    (first_low, last_low), (first_high, last_high) = ends
    if first_low is None or last_low is None or first_high is None or last_high is None:
        return 0
    return int(last_low > first_high) - int(last_high < first_low)


def _exploring(columns: Columns, alerts: Sequence[Alert]) -> Sentence:
    parts = [_channel(columns, f"entropy/{name}", name, kind) for name, kind in CHANNELS]
    text = f"entropy: {', '.join(parts)} nats per token"
    codes = {alert.code for alert in alerts}
    whole = change(columns, "entropy/policy")
    if "entropy_collapse" in codes:
        return Sentence("Is it exploring?", "bad", "Collapsed", text)
    if "entropy_explosion" in codes:
        return Sentence("Is it exploring?", "bad", "Exploded", text)
    if whole is None:
        return Sentence("Is it exploring?", "plain", "Too early to tell", text)
    newest = curves.values(columns, "entropy/informative")[1][-WINDOW:]
    if len(newest) == WINDOW and all(value is None for value in newest):
        return Sentence("Is it exploring?", "bad", "Only what is wrong", text)
    if not whole.certain:
        return Sentence("Is it exploring?", "good", "Steady", text)
    if whole.difference > 0:
        return Sentence("Is it exploring?", "plain", "Exploring more", text)
    kept = whole.end / whole.start if whole.start > 0 else 0.0
    return Sentence(
        "Is it exploring?", "plain", "Exploring less", f"{text}; {wording.percent(kept)} of the policy's is left"
    )


def _channel(columns: Columns, key: str, name: str, kind: str) -> str:
    steps, found = curves.values(columns, key)
    defined = [(step, value) for step, value in zip(steps, found, strict=True) if value is not None]
    if not defined:
        return f"{name} undefined (no {kind} rollouts)"
    if found[-1] is None:
        step, value = defined[-1]
        return f"{name} undefined now (no {kind} rollouts; last {_nats(float(value))} at step {step})"
    seen = change(columns, key)
    return f"{name} {_nats(float(defined[-1][1])) if seen is None else _move(seen.start, seen.end, _nats)}"


def _gradient(columns: Columns) -> Sentence:
    effective = _late(columns, "group/effective")
    if effective is None:
        effective = _late(columns, "group/mixed")
    if effective is None:
        return Sentence("Do its groups teach?", "plain", "Not measured", "no metric tells which groups gave a gradient")
    none, every = _late(columns, "group/none_solved"), _late(columns, "group/all_solved")
    without = max(0.0, 1 - effective)
    text = f"{wording.percent(without)} of the last steps' groups give no gradient"
    if none is not None and every is not None:
        text += f" ({wording.percent(none)} none solved, {wording.percent(every)} all solved)"
    if without >= MUCH_WITHOUT:
        return Sentence("Do its groups teach?", "bad", "Mostly wasted" if without >= 0.8 else "Half wasted", text)
    return Sentence("Do its groups teach?", "good" if without < 0.3 else "plain", "Most groups teach", text)


def _state(job: Mapping[str, Any]) -> Sentence:
    status, progress = job["status"], job["progress"]
    at = f"step {progress['step']} of {progress['steps']}"
    took = _took(job)
    if status == "succeeded":
        return Sentence("Where does it stand?", "good", "Finished", f"all {progress['steps']} steps are done{took}")
    if status == "failed":
        failure = job["failure"] or {}
        why = "retrying gives the same" if failure.get("kind") == "user" else "the infrastructure, not the run"
        return Sentence(
            "Where does it stand?", "bad", "Failed", f"after {at}: {failure.get('code', 'unknown')} ({why})"
        )
    if status == "cancelled":
        return Sentence("Where does it stand?", "plain", "Cancelled", f"somebody ended it after {at}{took}")
    if status in ("paused", "pausing"):
        reason = job.get("pause_reason")
        why = f"the platform paused it: {reason['code']}" if reason else "somebody paused it"
        return Sentence("Where does it stand?", "bad" if reason else "plain", status.capitalize(), f"{why}, after {at}")
    if status == "queued":
        return Sentence("Where does it stand?", "plain", "Waiting", wording.waiting(job) or "for a worker")
    left = wording.remaining(job)
    ahead = f", about {wording.duration(left)} left" if left is not None else ""
    return Sentence("Where does it stand?", "plain", status.capitalize(), f"{at}{ahead}")


def _took(job: Mapping[str, Any]) -> str:
    started, finished = wording.moment(job.get("started_at")), wording.moment(job.get("finished_at"))
    if started is None or finished is None:
        return ""
    return f", in {wording.duration((finished - started).total_seconds())}"


def _late(columns: Columns, key: str) -> float | None:
    defined = [float(value) for value in curves.values(columns, key)[1] if value is not None]
    return statistics.fmean(defined[-WINDOW:]) if defined else None


def _move(start: float, end: float, show: Callable[[float], str]) -> str:
    return f"{show(start)} → {show(end)}"


def _nats(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 else wording.number(value)
