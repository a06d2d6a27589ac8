"""What a comparison shows, decided without Streamlit: labels, the metrics on offer, overlays, the summary table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard import curves
from dashboard.chart import Chart, Line
from dashboard.colors import Color
from dashboard.wording import NOTHING, number

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


def labels(names: Mapping[str, str]) -> dict[str, str]:
    """Job id -> its name, with the end of its id where another run has the same name."""
    counts: dict[str, int] = {}
    for name in names.values():
        counts[name] = counts.get(name, 0) + 1
    return {job_id: name if counts[name] == 1 else f"{name} · {job_id[-TAIL:]}" for job_id, name in names.items()}


def choices(columns: Iterable[curves.Columns], asked: Sequence[str]) -> list[str]:
    """The metrics any of the runs has, sorted, intervals aside; what the link asks for stays on offer."""
    found = {key for run in columns for key in run}
    found = {key for key in found if not key.endswith(("/low", "/high"))} - NOT_A_CURVE
    return sorted(found | set(asked))


def is_fraction(key: str) -> bool:
    return key.startswith(FRACTIONS) or key.endswith("_fraction") or "clip_fraction" in key


def extreme(key: str) -> str:
    """What the summary tells of a metric beside its newest value: highest, lowest, or range (no side is better)."""
    if key.startswith(LOWER_IS_BETTER):
        return "lowest"
    return "highest" if key.startswith(HIGHER_IS_BETTER) else "range"


def overlay(
    key: str,
    runs: Sequence[Run],
    columns: Mapping[str, curves.Columns],
    styles: Mapping[str, tuple[Color, list[int] | None]],
) -> Chart:
    """One metric of all runs. Evaluations are marked with points and carry their intervals."""
    measured = key.startswith("eval/")
    lines: list[Line] = []
    for run in runs:
        color, dash = styles[run.id]
        lines.append(
            curves.line(columns.get(run.id, {}), key, run.label, color, dash=dash, points=measured, interval=measured)
        )
    return Chart(
        key,
        series=curves.present(lines),
        unit="%" if is_fraction(key) else "",
        height=240,
        empty="None of these runs has this metric yet",
    )


def summary(runs: Sequence[Run], columns: Mapping[str, curves.Columns], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row per run: where it stands, and for each metric its newest value and its best one or its range."""
    rows = []
    for run in runs:
        own = columns.get(run.id, {})
        row: dict[str, Any] = {"run": run.label, "status": run.status, "step": run.step}
        for key in keys:
            row[f"{key} last"] = curves.last(own, key)
            row[f"{key} extreme"] = _extreme(own, key)
        rows.append(row)
    return rows


def _extreme(columns: curves.Columns, key: str) -> str:
    lowest, highest = curves.best(columns, key, lowest=True), curves.best(columns, key)
    if lowest is None or highest is None:
        return NOTHING
    kind = extreme(key)
    if kind == "range":
        return f"{number(lowest[1])} to {number(highest[1])}"
    step, value = lowest if kind == "lowest" else highest
    return f"{number(value)} (step {step})"
