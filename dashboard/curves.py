"""From the API's columns (`{key: {step: [], value: []}}`) to lines of a chart: gaps, notes, detail, last values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from client.results import Series
from dashboard.chart import Line, Value
from dashboard.colors import Color

Columns = Mapping[str, Series]
"""Metric key -> {"step": [...], "value": [...]}; a null value is undefined there."""


STRETCHES = 150
"""As many points as a chart of areas can show apart."""


def values(columns: Columns, key: str) -> tuple[list[int], list[Value]]:
    """Steps and values of one key; both empty when the run has none."""
    series = columns.get(key)
    return (list(series["step"]), list(series["value"])) if series else ([], [])


def line(
    columns: Columns,
    key: str,
    label: str,
    color: Color,
    *,
    dash: list[int] | None = None,
    points: bool = False,
    interval: bool = False,
    note: tuple[str, Callable[[Any], str]] | None = None,
) -> Line:
    """The key's curve. `interval` draws {key}/low and {key}/high; `note` adds another key's value to the tooltip."""
    x, y = values(columns, key)
    low = _at(columns, f"{key}/low", x) if interval else None
    high = _at(columns, f"{key}/high", x) if interval else None
    if low is None or high is None or all(value is None for value in low):
        low = high = None
    keys = [key] if low is None else [key, f"{key}/low", f"{key}/high"]
    notes = None
    if note is not None:
        noted = _at(columns, note[0], x)
        notes = ["" if value is None else note[1](value) for value in noted]
        keys.append(note[0])
    return Line(label, color, x, y, dash=dash, points=points, low=low, high=high, notes=notes, keys=keys)


def _at(columns: Columns, key: str, steps: Sequence[int]) -> list[Value]:
    found = dict(zip(*values(columns, key), strict=True))
    return [found.get(step) for step in steps]


def present(lines: Sequence[Line]) -> list[Line]:
    """Without the lines that have nothing to show: a legend names what is there."""
    return [line for line in lines if any(value is not None for value in line.y)]


def in_stretches(lines: Sequence[Line], count: int = STRETCHES) -> list[Line]:
    """Lines of different steps, as thinning leaves them, at the same ones: their means over `count` stretches of steps.

    Where all have the same steps they are left as they are. A stretch in which one of them has no value is left out.
    """
    if len({tuple(each.x) for each in lines}) <= 1:
        return list(lines)
    ends = [step for each in lines for step in (each.x[0], each.x[-1]) if each.x]
    low, high = min(ends), max(ends)
    width = max((high - low + 1) / count, 1.0)
    found: list[dict[int, list[float]]] = []
    for each in lines:
        held: dict[int, list[float]] = {}
        for step, value in zip(each.x, each.y, strict=True):
            if value is not None:
                held.setdefault(int((step - low) / width), []).append(float(value))
        found.append(held)
    common = sorted(set.intersection(*(set(held) for held in found)))
    middles = [round(low + (stretch + 0.5) * width) for stretch in common]
    return [
        replace(each, x=middles, y=[sum(held[at]) / len(held[at]) for at in common], notes=None, low=None, high=None)
        for each, held in zip(lines, found, strict=True)
    ]


def last(columns: Columns, key: str) -> Value:
    """The newest defined value."""
    return next((value for value in reversed(values(columns, key)[1]) if value is not None), None)


def first(columns: Columns, key: str) -> Value:
    return next((value for value in values(columns, key)[1] if value is not None), None)


def best(columns: Columns, key: str, *, lowest: bool = False) -> tuple[int, float] | None:
    """(step, value) of the highest value, or the lowest; of equals the earliest."""
    steps, found = values(columns, key)
    if len(steps) != len(found):
        raise ValueError(f"{key}: {len(steps)} steps and {len(found)} values")
    # Whole columns by C's own loops: a page asks this of every run and metric at each refresh.
    defined = [value for value in found if value is not None] if None in found else found
    if not defined:
        return None
    value = min(defined) if lowest else max(defined)  # type: ignore[type-var]
    return steps[found.index(value)], float(value)  # type: ignore[arg-type]


def finer(overview: Columns, detail: Columns, within: tuple[int, int]) -> dict[str, Series]:
    """The overview of a long run with the steps `within` (both ends included) replaced by a closer look at them."""
    merged: dict[str, Series] = {}
    low, high = within
    for key in {**overview, **detail}:
        outside = [pair for pair in zip(*values(overview, key), strict=True) if not low <= pair[0] <= high]
        inside = list(zip(*values(detail, key), strict=True))
        pairs = sorted(outside + inside, key=lambda pair: pair[0])
        merged[key] = {"step": [step for step, _ in pairs], "value": [value for _, value in pairs]}
    return merged


def by_run(answer: Mapping[str, Any]) -> dict[str, Columns]:
    """Job id -> its columns, of an answer of GET /compare."""
    return {job_id: run["keys"] for job_id, run in answer["jobs"].items()}
