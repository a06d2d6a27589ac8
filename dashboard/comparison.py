"""What a comparison shows, decided without Streamlit: labels, the metrics on offer, overlays, the summary table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from client.results import Clock
from dashboard import axes, curves, seeds
from dashboard.chart import Chart, Line
from dashboard.colors import Style
from dashboard.curves import Columns
from dashboard.wording import NOTHING, number, percent

FRACTIONS = ("group/accuracy", "group/none_solved", "group/mixed", "group/all_solved", "pass_at_k/", "eval/")
HIGHER_IS_BETTER = (
    "group/accuracy",
    "group/all_solved",
    "reward/mean",
    "pass_at_k/",
    "eval/",
    "perf/tokens_per_second",
)
LOWER_IS_BETTER = ("group/none_solved", "rollout/truncated_fraction", "perf/step_seconds", "rollout/logprob_diff")
NOT_A_CURVE = frozenset({"group/histogram"})
TAIL = 6


@dataclass(frozen=True)
class Run:
    id: str
    label: str
    status: str
    step: int
    spec: Mapping[str, Any]
    gpus: int | None = None
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """Runs that are shown as one: those that differ in their seed only, or a run alone."""

    label: str
    runs: Sequence[Run]

    @property
    def id(self) -> str:
        """Of the run whose colour it has: the oldest."""
        return min(run.id for run in self.runs)


@dataclass(frozen=True)
class Look:
    """How the charts of a page are drawn: all of it is in the address."""

    axis: str = axes.STEP
    band: str = seeds.APART
    least: int = 0
    """A mean over seeds is drawn where so many runs have a value; 0: where all of the group have."""
    log: bool = False
    smooth: float = 0.0
    clip: float = 0.0
    zoom: tuple[float, float] | None = None
    csv: str = ""
    """Where the chart's numbers are to be had."""


@dataclass(frozen=True)
class Material:
    """What charts are made of."""

    columns: Mapping[str, Columns]
    """By job id."""
    styles: Mapping[str, Style]
    clocks: Mapping[str, Clock] = field(default_factory=dict)


def labels(names: Mapping[str, str]) -> dict[str, str]:
    """Job id -> its name, with the end of its id where another run has the same name."""
    counts: dict[str, int] = {}
    for name in names.values():
        counts[name] = counts.get(name, 0) + 1
    return {job_id: name if counts[name] == 1 else f"{name} · {job_id[-TAIL:]}" for job_id, name in names.items()}


def groups(runs: Sequence[Run], band: str) -> list[Group]:
    """The runs, each alone, or by what is the same but for the seed."""
    if band == seeds.APART:
        return [Group(run.label, [run]) for run in runs]
    by_id = {run.id: run for run in runs}
    members = [[by_id[job_id] for job_id in ids] for ids in seeds.grouped({run.id: run.spec for run in runs})]
    found = [Group(seeds.common_name([run.label for run in group]), group) for group in members]
    told = labels({group.id: group.label for group in found})
    return [replace(group, label=told[group.id]) for group in found]


def choices(columns: Iterable[Iterable[str]], asked: Sequence[str]) -> list[str]:
    """The metrics any of the runs has, sorted, intervals aside; what the link asks for stays on offer."""
    found = {key for run in columns for key in run}
    found = {key for key in found if not key.endswith(("/low", "/high"))} - NOT_A_CURVE
    return sorted(found | set(asked))


def asked_for(keys: Sequence[str], axis: str) -> tuple[str, ...]:
    """The metric keys that charts of these need: intervals of evaluations, and what the axis is measured by."""
    ends = (f"{key}/{end}" for key in keys if key.startswith("eval/") for end in ("low", "high"))
    return tuple(dict.fromkeys([*keys, *ends, *axes.measured_by(axis)]))


def is_fraction(key: str) -> bool:
    return key.startswith(FRACTIONS) or key.endswith("_fraction") or "clip_fraction" in key


def extreme(key: str) -> str:
    """What the summary tells of a metric beside its newest value: highest, lowest, or range (no side is better)."""
    if key.startswith(LOWER_IS_BETTER):
        return "lowest"
    return "highest" if key.startswith(HIGHER_IS_BETTER) else "range"


# ---- curves ----


def overlay(key: str, shown: Sequence[Group], material: Material, look: Look) -> Chart:
    """One metric of all runs. Evaluations are marked with points and carry their intervals."""
    drawn = [
        (group, _together(key, group, material, look))
        if len(group.runs) > 1
        else (group, _alone(key, group.runs[0], group.label, material))
        for group in shown
    ]
    drawn = [(group, line) for group, line in drawn if curves.present([line])]
    label, lines = look.axis, [line for _, line in drawn]
    if look.axis != axes.STEP:
        # Of a group, the run whose colour it has tells where its steps lie.
        told = [_place(min(group.runs, key=lambda run: run.id), material, look.axis) for group, _ in drawn]
        ends = (place(int(line.x[-1])) or 0.0 for place, line in zip(told, lines, strict=True))
        label, divisor = axes.unit(look.axis, max(ends, default=0.0))
        lines = curves.present([_moved(line, place, divisor) for place, line in zip(told, lines, strict=True)])
    banded = any(len(group.runs) > 1 for group in shown)
    return Chart(
        key,
        seeds.EXPLAINED[look.band] + _least(look) if banded else "",
        series=lines,
        unit="%" if is_fraction(key) else "",
        height=260,
        x_label=label,
        log=look.log,
        smooth=look.smooth,
        clip=look.clip,
        zoom=look.zoom,
        sync="compare",
        csv=look.csv,
        empty="None of these runs has this metric yet",
    )


def _least(look: Look) -> str:
    return f", where {look.least} or more have a value" if look.least else ", where all of them have a value"


def _place(run: Run, material: Material, axis: str) -> axes.Place:
    return axes.places(axis, material.columns.get(run.id, {}), material.clocks.get(run.id), run.spec, run.gpus)


def _alone(key: str, run: Run, label: str, material: Material) -> Line:
    color, dash = material.styles[run.id]
    measured = key.startswith("eval/")
    own = material.columns.get(run.id, {})
    return curves.line(own, key, label, color, dash=dash, points=measured, interval=measured)


def _together(key: str, group: Group, material: Material, look: Look) -> Line:
    """The mean of a group, at the steps at which enough of its runs were measured."""
    color, dash = material.styles[group.id]
    found = [curves.values(material.columns.get(run.id, {}), key) for run in group.runs]
    have = [curve for curve in found if any(value is not None for value in curve[1])]
    least = min(look.least or len(group.runs), len(group.runs))
    spreads = seeds.over_steps(have, look.band, least)
    return Line(
        f"{group.label} · n = {len(have)}",
        color,
        list(spreads),
        [each.mean for each in spreads.values()],
        dash=dash,
        points=key.startswith("eval/"),
        low=[each.low for each in spreads.values()],
        high=[each.high for each in spreads.values()],
        notes=[f"n = {each.n}" for each in spreads.values()],
    )


def _moved(line: Line, place: axes.Place, divisor: float) -> Line:
    """The line over another axis; points whose place is not known are left out, and of equal places the last stays."""
    at = {}
    for index, step in enumerate(line.x):
        position = place(int(step))
        if position is not None:
            at[position / divisor] = index
    kept = sorted(at)

    def moved(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else [column[at[x]] for x in kept]

    return replace(
        line, x=kept, y=moved(line.y) or [], low=moved(line.low), high=moved(line.high), notes=moved(line.notes)
    )


# ---- the summary ----


def summary(
    shown: Sequence[Group], columns: Mapping[str, Columns], keys: Sequence[str]
) -> list[dict[tuple[str, str], Any]]:
    """One row per run or group: where it stands, and for each metric its newest value and its best one or its range.

    Of a group, means over its runs with their standard deviation; a best value is the mean of each run's own best.
    A column is (metric, which of its values), what is no metric's ("", what it is). Fractions are in percent.
    """
    rows = []
    for group in shown:
        own = [columns.get(run.id, {}) for run in group.runs]
        row: dict[tuple[str, str], Any] = {
            ("", "run"): group.label,
            ("", "runs"): len(group.runs),
            ("", "status"): ", ".join(dict.fromkeys(run.status for run in group.runs)),
            ("", "step"): min(run.step for run in group.runs),
        }
        for key in keys:
            scale = 100 if is_fraction(key) else 1
            newest = [scale * value for each in own if (value := curves.last(each, key)) is not None]
            row[key, "last"] = fmean(newest) if newest else None
            row[key, "spread"] = stdev(newest) if len(newest) > 1 else None
            row[key, "extreme"] = _extreme(own, key)
        rows.append(row)
    return rows


def score(columns: Columns, key: str, which: str) -> float | None:
    """A run's newest or best value of a metric (best: its highest where no side is better)."""
    if which == "last":
        found = curves.last(columns, key)
        return None if found is None else float(found)
    best = curves.best(columns, key, lowest=extreme(key) == "lowest")
    return None if best is None else best[1]


def _extreme(own: Sequence[Columns], key: str) -> str:
    ends = [(curves.best(each, key, lowest=True), curves.best(each, key)) for each in own]
    found = [(low, high) for low, high in ends if low is not None and high is not None]
    if not found:
        return NOTHING
    kind, show = extreme(key), percent if is_fraction(key) else number
    if kind == "range":
        return f"{show(min(low[1] for low, _ in found))} to {show(max(high[1] for _, high in found))}"
    best = [low if kind == "lowest" else high for low, high in found]
    if len(best) == 1:
        return f"{show(best[0][1])} (step {best[0][0]})"
    values = [value for _, value in best]
    return f"{show(fmean(values))} ± {show(stdev(values))}"
