"""How much the model can solve with k tries: pass@k over steps, and over k at the steps one chooses."""

from collections.abc import Sequence

from dashboard import colors
from dashboard.chart import Chart, Line
from dashboard.colors import Color
from dashboard.curves import Columns, line, present, values
from dashboard.panels.section import Section, Spec, Subject, benchmarks, train_ks

MOST_STEPS = 6
"""Curves on one chart over k: as many as there are shades that one can tell apart."""


def _keys(spec: Spec) -> list[str]:
    keys = [f"pass_at_k/train/{k}" for k in train_ks(spec)]
    for name, ks in benchmarks(spec):
        for k in ks:
            base = f"eval/{name}/pass_at_k/{k}"
            keys += [base, f"{base}/low", f"{base}/high"]
    return keys


def sources(spec: Spec) -> list[tuple[str, list[int], str]]:
    """(name, its k's, where its keys begin) of each benchmark and of the training prompts."""
    measured = [(name, ks, f"eval/{name}/pass_at_k") for name, ks in benchmarks(spec)]
    return [*measured, ("training prompts", train_ks(spec), "pass_at_k/train")]


def evaluated(columns: Columns, spec: Spec) -> list[int]:
    """The steps at which some benchmark was measured."""
    found: set[int] = set()
    for _, ks, prefix in sources(spec)[:-1]:
        found.update(values(columns, f"{prefix}/{ks[0]}")[0])
    return sorted(found)


def _charts(columns: Columns, subject: Subject) -> dict[str, Chart]:
    charts: dict[str, Chart] = {}
    for name, ks, prefix in sources(subject.spec):
        measured = prefix.startswith("eval/")
        over_steps = [
            line(columns, f"{prefix}/{k}", f"k = {k}", colors.shade(index), points=measured, interval=measured)
            for index, k in enumerate(ks)
        ]
        charts[f"coverage-{name}"] = Chart(
            f"pass@k, {name}", "chance that one of k is correct", present(over_steps), unit="%", y_min=0.0
        )
        if len(ks) > 1:
            charts[f"curve-{name}"] = _curve(columns, name, ks, prefix, subject.steps)
    return charts


def _curve(columns: Columns, name: str, ks: Sequence[int], prefix: str, chosen: Sequence[int]) -> Chart:
    """Coverage over k at some steps: a gain at small k may be a loss at large k."""
    measured, _ = values(columns, f"{prefix}/{ks[0]}")
    steps = [step for step in sorted(chosen) if step in measured][:MOST_STEPS]
    if not steps and measured:
        steps = list(dict.fromkeys([measured[0], measured[-1]]))
    drawn = []
    for index, step in enumerate(steps):
        found, low, high = (
            [dict(zip(*values(columns, f"{prefix}/{k}{end}"), strict=True)).get(step) for k in ks]
            for end in ("", "/low", "/high")
        )
        banded = all(value is not None for value in [*low, *high])
        drawn.append(
            Line(
                f"step {step}",
                _shade(index, len(steps)),
                list(ks),
                found,
                points=True,
                low=low if banded else None,
                high=high if banded else None,
                keys=[f"{prefix}/{k}{end}" for k in ks for end in (("", "/low", "/high") if banded else ("",))],
            )
        )
    told = "bands are 95 % intervals over problems" if prefix.startswith("eval/") else "of the step's own groups"
    return Chart(f"Coverage, {name}", f"pass@k over k; {told}", drawn, unit="%", x_label="k", log_x=True, y_min=0.0)


def _shade(index: int, count: int) -> Color:
    """Grey for the first, the strongest for the newest, shades of it between."""
    if index == 0 and count > 1:
        return colors.GRAY
    return colors.benchmark(0) if index == count - 1 else colors.shade(count - 1 - index)


SECTION = Section(_keys, _charts)
