"""Where a run goes wrong in ways that no exception shows: which steps, told by whom, and where to look.

The trainer watches its own metrics step by step and says so once per episode (trainer/run_warnings.py); those warnings,
in the run's journal, are the truth. The metrics tell from when to when an episode lasts, since a warning has one step
only, and they find the episodes of runs whose trainer said nothing. Curves that were thinned show an episode's ends to
within their spacing. Pure functions, no Streamlit.

Thresholds, the trainer's own (a test holds them equal):

    entropy_collapse    entropy under 0.1 of that of the first 5 steps, or under 0.01 nats, for 5 steps
    entropy_explosion   over 3 times that of the first 5 steps and by 0.5 nats at least, for 5 steps
    no_gradient         under 5 % of the groups give a gradient, for 20 steps
    mostly_truncated    over 80 % of the responses are cut at the limit of new tokens
    engine_mismatch     engine and trainer differ by more than 0.05 nats a token on average
    reward_constant     every rollout of a step gets the same reward, for 10 steps
    gradient_spike      the gradient's norm is 8 times the median of the 50 values before it
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboard import curves
from dashboard.chart import Chart, Span
from dashboard.colors import ORANGE, PINK, PURPLE, VERMILION, YELLOW, Color
from dashboard.curves import Columns

BASELINE_STEPS = 5
COLLAPSE_FRACTION, COLLAPSE_NATS = 0.1, 0.01
EXPLOSION_FACTOR, EXPLOSION_NATS = 3.0, 0.5
EFFECTIVE_FRACTION = 0.05
TRUNCATED_FRACTION = 0.8
MISMATCH_NATS = 0.05
RECOVERY_STEPS = 5
"""An episode ends after so many steps without its condition."""
SPIKE_FACTOR, SPIKE_MEDIAN_OF, SPIKE_LEAST = 8.0, 50, 10

Held = list[tuple[int, bool]]
"""(step, whether the condition holds there), where that is known."""


@dataclass(frozen=True)
class Kind:
    """One thing that can go wrong."""

    code: str
    title: str
    keys: Sequence[str]
    """The metrics that tell, the first that the run has."""
    patience: int
    """For so many steps it must hold."""
    held: Callable[[list[int], list[float | None]], Held]
    charts: Sequence[str]
    """Names of the charts that are shaded where it holds."""
    color: Color
    advice: str


@dataclass(frozen=True)
class Alert:
    """An episode, both ends included. Without a step it concerns the run as a whole."""

    code: str
    title: str
    message: str
    first: int | None
    last: int | None
    step: int | None
    """Whose rollouts show it: when it was told, or when it had lasted long enough to be."""
    told: bool
    """By the trainer; else read off the metrics."""

    @property
    def where(self) -> str:
        if self.first is None or self.last is None:
            return ""
        return f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"


def _known(steps: list[int], values: list[float | None], holds: Callable[[float], bool]) -> Held:
    return [(step, holds(value)) for step, value in zip(steps, values, strict=True) if value is not None]


def _against_the_beginning(
    holds: Callable[[float, float | None], bool],
) -> Callable[[list[int], list[float | None]], Held]:
    """A condition on a value and the mean of the first few; None as long as those are not all there."""

    def held(steps: list[int], values: list[float | None]) -> Held:
        first = [value for value in values if value is not None][:BASELINE_STEPS]
        baseline = sum(first) / len(first) if len(first) == BASELINE_STEPS else None
        return _known(steps, values, lambda value: holds(value, baseline))

    return held


def _collapsed(value: float, baseline: float | None) -> bool:
    return value < COLLAPSE_NATS or (baseline is not None and value < COLLAPSE_FRACTION * baseline)


def _exploded(value: float, baseline: float | None) -> bool:
    return baseline is not None and value > max(EXPLOSION_FACTOR * baseline, baseline + EXPLOSION_NATS)


def _spiked(steps: list[int], values: list[float | None]) -> Held:
    before: list[float] = []
    found: Held = []
    for step, value in zip(steps, values, strict=True):
        if value is None:
            continue
        if len(before) >= SPIKE_LEAST:
            found.append((step, value > SPIKE_FACTOR * statistics.median(before[-SPIKE_MEDIAN_OF:])))
        before.append(value)
    return found


KINDS: tuple[Kind, ...] = (
    Kind(
        "entropy_collapse",
        "Entropy collapse",
        ("entropy/policy",),
        5,
        _against_the_beginning(_collapsed),
        ("entropy", "tokens", "drive", "accuracy"),
        VERMILION,
        "All rollouts of a prompt become the same and nothing is explored. A larger beta_pos, a higher clip_high or a "
        "lower learning rate keep the entropy up.",
    ),
    Kind(
        "entropy_explosion",
        "Entropy explosion",
        ("entropy/policy",),
        5,
        _against_the_beginning(_exploded),
        ("entropy", "tokens", "drive", "accuracy"),
        PURPLE,
        "Responses turn to noise. A lower learning rate, entropy_coef or beta_pos holds the entropy down.",
    ),
    Kind(
        "no_gradient",
        "No gradient",
        ("group/effective", "group/mixed"),
        20,
        lambda steps, values: _known(steps, values, lambda value: value < EFFECTIVE_FRACTION),
        ("shares", "effective", "accuracy", "grad_norm"),
        ORANGE,
        "Fewer than 5 % of the groups give a gradient: the prompts are too hard or too easy for this model, or the "
        "verifier judges all answers alike.",
    ),
    Kind(
        "mostly_truncated",
        "Mostly truncated",
        ("rollout/truncated_fraction",),
        1,
        lambda steps, values: _known(steps, values, lambda value: value > TRUNCATED_FRACTION),
        ("truncated", "length", "accuracy"),
        PINK,
        "Most responses are cut before they end. Raise rollout.max_new_tokens, or check that the model knows how to "
        "stop.",
    ),
    Kind(
        "engine_mismatch",
        "Engine mismatch",
        ("rollout/logprob_diff_mean",),
        1,
        lambda steps, values: _known(steps, values, lambda value: value > MISMATCH_NATS),
        ("engine", "ratio", "kl"),
        PURPLE,
        "The engine samples from another policy than the one trained: old weights, another temperature, or a coarser "
        "number format, which importance_correction can make up for.",
    ),
    Kind(
        "reward_constant",
        "Same reward for all",
        ("reward/std",),
        10,
        lambda steps, values: _known(steps, values, lambda value: value == 0),
        ("accuracy", "shares", "reward"),
        YELLOW,
        "Every rollout of a step gets the same reward. Look at some rollouts and at what the verifier makes of them.",
    ),
    Kind(
        "gradient_spike",
        "Gradient spike",
        ("policy/grad_norm",),
        1,
        _spiked,
        ("grad_norm", "loss"),
        PINK,
        "The gradient's norm is 8 times its usual one. Look at that step's rollouts and advantages; max_grad_norm "
        "bounds what it did.",
    ),
)
BY_CODE = {kind.code: kind for kind in KINDS}
KEYS: list[str] = list(dict.fromkeys(key for kind in KINDS for key in kind.keys))
"""The metrics that `found` looks at."""


def found(columns: Columns, events: Iterable[Mapping[str, Any]] = ()) -> list[Alert]:
    """The run's alerts, in order of their steps. events: its journal, oldest first, with or without steps."""
    told = _told(events)
    alerts: list[Alert] = []
    for kind in KINDS:
        mine = [alert for alert in told if alert.code == kind.code]
        for first, last, since in _episodes_of(kind, columns):
            within = [
                alert for alert in mine if alert.step is not None and first <= alert.step <= last + RECOVERY_STEPS
            ]
            mine = [alert for alert in mine if alert not in within]
            if within:
                alerts.append(replace(within[0], first=first, last=max(last, within[-1].step or last)))
            else:
                alerts.append(Alert(kind.code, kind.title, kind.advice, first, last, since, told=False))
        alerts += mine
    alerts += [alert for alert in told if alert.code not in BY_CODE]
    return sorted(alerts, key=lambda alert: (alert.first is not None, alert.first or 0))


def spans(alerts: Iterable[Alert], chart: str, href: Callable[[int], str]) -> list[Span]:
    """What to shade on the chart of this name. href: the address of a step's rollouts."""
    shaded = []
    for alert in alerts:
        kind = BY_CODE.get(alert.code)
        if kind is None or chart not in kind.charts or alert.first is None or alert.last is None or alert.step is None:
            continue
        shaded.append(Span(alert.first, alert.last, alert.title, kind.color, step=alert.step, href=href(alert.step)))
    return shaded


def shade(charts: Mapping[str, Chart], alerts: Sequence[Alert], href: Callable[[int], str]) -> dict[str, Chart]:
    """The charts over steps, with the alerts that concern each."""
    return {
        name: replace(chart, spans=[*chart.spans, *spans(alerts, name, href)]) if chart.x_label == "step" else chart
        for name, chart in charts.items()
    }


def _told(events: Iterable[Mapping[str, Any]]) -> list[Alert]:
    """The warnings in the journal. What an attempt said of steps that were done again later is void."""
    alerts: list[Alert] = []
    for event in events:
        if event["type"] != "message":
            continue
        data = event["data"]
        resumed = data.get("resumed_from")
        if resumed is not None:
            alerts = [alert for alert in alerts if alert.step is None or alert.step <= resumed]
        if event["level"] != "warning" or not data.get("code"):
            continue
        code, step = str(data["code"]), data.get("step")
        kind = BY_CODE.get(code)
        title = kind.title if kind else code.replace("_", " ").capitalize()
        alerts.append(Alert(code, title, str(event["message"]), step, step, step, told=True))
    return alerts


def _episodes_of(kind: Kind, columns: Columns) -> list[tuple[int, int, int]]:
    for key in kind.keys:
        steps, values = curves.values(columns, key)
        if any(value is not None for value in values):
            return episodes(kind.held(steps, values), kind.patience)
    return []


def episodes(held: Held, patience: int) -> list[tuple[int, int, int]]:
    """(first, last, since) of each: the steps it spans, and the one at which it had lasted for `patience` steps.

    A condition that is away for fewer than RECOVERY_STEPS goes on in the same episode.
    """
    stretches: list[tuple[int, int]] = []
    before = False
    for step, holds in held:
        if holds and before:
            stretches[-1] = (stretches[-1][0], step)
        elif holds:
            stretches.append((step, step))
        before = holds
    found: list[tuple[int, int, int]] = []
    for first, last in stretches:
        if found and first - found[-1][1] <= RECOVERY_STEPS:
            found[-1] = (found[-1][0], last, found[-1][2])
        elif last - first + 1 >= patience:
            found.append((first, last, min(last, first + patience - 1)))
    return found
