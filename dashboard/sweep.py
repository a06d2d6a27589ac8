"""A sweep as a table: two fields of the spec in which runs differ, and a metric in the cells, a mean over seeds."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from dashboard.chart import Cell, Grid
from dashboard.differences import as_text, flat
from dashboard.wording import number, percent

FIRST = ("algorithm.beta_pos", "algorithm.beta_neg")
"""Offered first where they differ."""


def fields(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Numeric fields that are in all specs and not the same in all; the seed is what cells are means over."""
    flats = [flat(spec) for spec in specs]
    found = []
    for path in flats[0] if flats else ():
        held = [fields.get(path) for fields in flats]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in held)
        if numeric and len(set(held)) > 1 and path != "seed":
            found.append(path)
    return sorted(found, key=lambda path: (path not in FIRST, FIRST.index(path) if path in FIRST else 0, path))


def grid(
    title: str,
    subtitle: str,
    specs: Mapping[str, Mapping[str, Any]],
    rows: str,
    columns: str,
    scores: Mapping[str, float | None],
    *,
    fraction: bool,
) -> Grid:
    """scores: by job id; a run without one is left out. Values of the fields rise down and to the right.

    What is no number stands behind those that are, by its text.
    """
    flats = {job_id: flat(spec) for job_id, spec in specs.items()}
    ends = [sorted({fields.get(field) for fields in flats.values()}, key=_place) for field in (rows, columns)]
    held: dict[tuple[Any, Any], list[float]] = {}
    for job_id, fields in flats.items():
        score = scores.get(job_id)
        if score is not None:
            held.setdefault((fields.get(rows), fields.get(columns)), []).append(score)
    cells = [[_cell(held.get((row, column)), fraction) for column in ends[1]] for row in ends[0]]
    names = [[as_text(value) for value in values] for values in ends]
    return Grid(title, (rows, names[0]), (columns, names[1]), cells, subtitle, "%" if fraction else "")


def _place(value: Any) -> tuple[bool, float, str]:  # noqa: ANN401 (a scalar of a spec)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return (not numeric, float(value) if numeric else 0.0, as_text(value))


def _cell(scores: Sequence[float] | None, fraction: bool) -> Cell | None:
    if not scores:
        return None
    show = percent if fraction else number
    text = f"mean of {len(scores)}: {', '.join(show(score) for score in sorted(scores))}"
    spread = f"± {show(stdev(scores))}, " if len(scores) > 1 else ""
    return Cell(fmean(scores), f"{spread}n = {len(scores)}", text)
