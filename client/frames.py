"""Answers of the API as pandas frames. pandas is optional (the extra `pandas`) and imported when a frame is asked for.

An undefined metric (null) and one that was not measured at a step are both missing: NaN, or <NA> in a column of whole
numbers, which stays one (Int64).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from client.extras import require
from client.results import Comparison, Metrics, Series, Sweep

if TYPE_CHECKING:
    import pandas as pd

EVERY_STEP = 1_000_000
"""As `max_points`: more than a series has, so that none is thinned out."""


def metrics_frame(found: Metrics, keys: Sequence[str] | None = None) -> "pd.DataFrame":
    """Index `step`, a column per key: as they were asked for, behind them what a pattern like `entropy/*` stands for.

    A key that was asked for by its name and has no value yet is a column of NaN.
    """
    pd = _pandas()
    columns = {key: _column(found["keys"].get(key)) for key in _columns(keys, found["keys"])}
    frame = pd.DataFrame(columns, index=_steps(found["keys"]))
    frame.index.name = "step"
    return frame


def comparison_frame(found: Comparison, keys: Sequence[str] | None = None) -> "pd.DataFrame":
    """Index (`job`, `step`), a column per key: `frame.loc[JOB_ID]`, or `frame["reward/mean"].unstack("job")`."""
    pd = _pandas()
    there = {key for job in found["jobs"].values() for key in job["keys"]}
    rows = [(job_id, step) for job_id, job in found["jobs"].items() for step in _steps(job["keys"])]
    index = pd.MultiIndex.from_tuples(rows, names=["job", "step"]) if rows else _no_rows()
    columns = {}
    for key in _columns(keys, there):
        values: dict[tuple[str, int], Any] = {}
        for job_id, job in found["jobs"].items():
            series = job["keys"].get(key, {"step": [], "value": []})
            values |= {(job_id, step): value for step, value in zip(series["step"], series["value"], strict=True)}
        columns[key] = pd.Series([values.get(row) for row in rows], index=index, dtype=_dtype(list(values.values())))
    return pd.DataFrame(columns, index=index)


def sweep_frame(found: Sweep) -> "pd.DataFrame":
    """A row per job of the sweep, in its order: what it has of its own by path, its seed, status and metric.

    Index `number`; columns: the paths, `seed`, `job`, `name`, `status`, `step`, `last`, `best`, `best_step`.
    """
    pd = _pandas()
    rows: list[dict[str, Any]] = [
        {
            **each["point"],
            "seed": each["seed"],
            "job": each["job_id"],
            **{name: each[name] for name in ("name", "status", "step", "last", "best", "best_step")},
        }
        for each in found["jobs"]
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _typed([row.get(name) for row in rows]) for name in names}
    frame = pd.DataFrame(columns)
    frame.index = pd.Index([each["number"] for each in found["jobs"]], name="number")
    return frame


def _columns(asked: Sequence[str] | None, there: Mapping[str, object] | set[str]) -> list[str]:
    named = [key for key in asked or () if not key.endswith("*")]
    return list(dict.fromkeys([*named, *sorted(there)]))


def _steps(series: Mapping[str, Series]) -> list[int]:
    return sorted(set().union(*(each["step"] for each in series.values())))


def _column(series: Series | None) -> "pd.Series":
    pd = _pandas()
    steps, values = (series["step"], series["value"]) if series else ([], [])
    return pd.Series(values, index=pd.Index(steps, dtype="int64"), dtype=_dtype(values))


def _typed(values: list[Any]) -> "pd.Series":
    return _pandas().Series(values, dtype=_dtype(values))


def _dtype(values: Sequence[Any]) -> str:
    defined = [value for value in values if value is not None]
    if defined and all(isinstance(value, bool) for value in defined):
        return "boolean"
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in defined):
        return "object"  # counts of a histogram, a text
    return "Int64" if defined and all(isinstance(value, int) for value in defined) else "float64"


def _no_rows() -> "pd.MultiIndex":
    return _pandas().MultiIndex.from_arrays([[], []], names=["job", "step"])


def _pandas() -> Any:  # noqa: ANN401 (a module)
    require("pandas")
    import pandas

    return pandas
