"""The one chart of the dashboard: lines, stacked shares or a heatmap over steps, drawn by uPlot in the browser; and a
plane, one metric over another. Spans of the axis can be shaded, each with its name and a way to a step's rollouts.

    chart.scripts()                       once per page, before the first chart
    chart.show(Chart(...), key="entropy")
    chart.grid(Grid(...), key="sweep")    numbers over two fields, coloured by value

A page of many long curves sends them once and then only what is new: dashboard/chart/live.py.

Streamlit's own charts are replaced, or lose their zoom, whenever their data changes; this component is fed instead.
Its code (60 kB) travels once per session in a message of its own, so that a refresh carries numbers only.
What belongs on a chart is decided in dashboard/panels.py; uPlot is vendored with its licence (LICENSE-uplot).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import streamlit as st

SCRIPTS = ("chart.js", "spans.js", "plane.js", "clock.js", "drawing.js", "clipping.js", "tools.js", "grid.js")
"""Parts of one module, in any order: they only define things."""

DIGITS, X_DIGITS = 6, 12
"""Significant digits that travel: more than a screen shows, and half of what a double takes as text."""

Value = float | int | None
Color = tuple[str, str]
"""On a light and on a dark background."""


@dataclass(frozen=True)
class Line:
    """One series: `y[i]` at step `x[i]`. None is undefined there and drawn as a gap, never as 0."""

    label: str
    color: Color
    x: Sequence[float]
    y: Sequence[Value]
    dash: Sequence[int] | None = None
    """Canvas dash pattern in pixels; None is a full line."""
    points: bool = False
    """Always mark the points: for curves measured every so many steps."""
    low: Sequence[Value] | None = None
    high: Sequence[Value] | None = None
    """An interval around y, drawn as a band."""
    notes: Sequence[str] | None = None
    """What the tooltip adds to each point, e.g. how many tokens a mean rests on."""
    keys: Sequence[str] = ()
    """The metrics it is drawn of; stays here."""


@dataclass(frozen=True)
class Heatmap:
    """`z[i][j]`: how many groups of step `x[i]` had j correct rollouts."""

    x: Sequence[int]
    z: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Plane:
    """One metric over another: the point `(x[i], y[i])` of step `step[i]`, and a smoother path through them."""

    step: Sequence[int]
    x: Sequence[Value]
    y: Sequence[Value]
    path_x: Sequence[Value]
    path_y: Sequence[Value]
    y_label: str


@dataclass(frozen=True)
class Span:
    """A shaded stretch of the x axis, both ends included."""

    low: float
    high: float
    label: str
    color: Color
    note: str = ""
    """More about it, for the tooltip."""
    step: int | None = None
    """What a click on its name asks for, by `on_step`."""
    href: str = ""
    """The same as an address, for another tab."""


@dataclass(frozen=True)
class Chart:
    title: str
    subtitle: str = ""
    """What is measured and in which unit, in a few words."""
    series: Sequence[Line] = ()
    kind: Literal["lines", "stack", "heatmap", "plane"] = "lines"
    unit: Literal["", "%"] = ""
    """`%` shows a fraction of 1 as a percentage."""
    x_label: str = "step"
    """`time`: x is seconds since 1970 and shown as the reader's clock does."""
    height: int = 220
    y_min: float | None = None
    y_max: float | None = None
    """Ends of the axis as long as the data lies within them, and lines not far from the lower one."""
    log: bool = False
    log_x: bool = False
    """For few x above 0 that each are about twice the one before, as the k of pass@k: the axis names all of them."""
    smooth: float = 0.0
    """Weight of the exponential moving average, 0 (raw) to below 1; the raw line stays, faint."""
    sync: str = ""
    """Charts with the same non-empty name share cursor and zoom."""
    clip: float = 0.0
    """The share of values at each end that the axis need not hold; they are marked at its edge and counted. 0: none."""
    zoom: tuple[float, float] | None = None
    """What to show at first; afterwards it is the browser's."""
    csv: str = ""
    """Where the numbers are to be had at full resolution, relative to the page."""
    empty: str = "No values yet"
    heatmap: Heatmap = field(default_factory=lambda: Heatmap([], []))
    plane: Plane | None = None
    spans: Sequence[Span] = ()
    keys: Sequence[str] = ()
    """The metrics it is drawn of beside those of its lines; stays here."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that it is drawn of: what its file holds."""
        return tuple(dict.fromkeys([*self.keys, *(key for line in self.series for key in line.keys)]))


@dataclass(frozen=True)
class Cell:
    value: float
    note: str
    """Beneath the number, e.g. how many runs it is of."""
    text: str
    """Told when one points at it."""


@dataclass(frozen=True)
class Grid:
    """`cells[i][j]`: of the i-th value of the field `rows` and the j-th of the field `columns`; None: nothing there."""

    title: str
    rows: tuple[str, Sequence[str]]
    columns: tuple[str, Sequence[str]]
    cells: Sequence[Sequence[Cell | None]]
    subtitle: str = ""
    unit: Literal["", "%"] = ""


def grid(grid: Grid, *, key: str) -> None:
    named = {
        axis: {"field": field, "values": list(values)}
        for axis, (field, values) in (("rows", grid.rows), ("columns", grid.columns))
    }
    _grid()(data={**asdict(grid), **named}, key=key)


def show(
    chart: Chart,
    *,
    key: str,
    on_range: Callable[[], None] | None = None,
    on_step: Callable[[], None] | None = None,
    encoded: bytes | None = None,
) -> tuple[int, int] | None:
    """Draw the chart; the steps that the user has zoomed in on, or None for all of them.

    `key` names this place of the page: the same key on the next run feeds the chart that is already there.
    on_step: called when a span's name is clicked; `st.session_state[key]["step"]` is its step then.
    encoded: the chart's message as dashboard.chart.live has made it, instead of one made anew.
    """
    result = _component()(
        data=encoded or payload(chart),
        key=key,
        on_range_change=on_range or _nothing,
        on_step_change=on_step or _nothing,
    )
    chosen = result.get("range")
    return (int(chosen[0]), int(chosen[1])) if chosen else None


def tails(data: Mapping[str, Any], *, key: str) -> None:
    """What follows the messages of live charts, by chart: the one message of a refresh."""
    _tails()(data=json.dumps(data).encode(), key=key)


def when_drawn(then: Callable[[], None], *, key: str) -> None:
    """Has the page run again, `then` before it, once the browser has drawn a chart."""
    _when_drawn()(key=key, on_drawn_change=then)


def scripts() -> None:
    """Bring the chart's code to the browser. The message is the same each time, so Streamlit sends it once."""
    _library()(key="asym-chart-library")


def payload(chart: Chart) -> dict[str, Any]:
    """The chart as the JSON that chart.js reads."""
    # Not asdict(line), which copies a column value by value.
    return {**_written(replace(chart, series=())), "series": [_compact(vars(line)) for line in chart.series]}


def _written(chart: Chart) -> dict[str, Any]:
    written = asdict(chart)
    del written["keys"]
    if written["plane"] is not None:
        points = {name: rounded(values, DIGITS) for name, values in written["plane"].items() if name[-1] in "xy"}
        written["plane"] |= points
    return written


def _compact(line: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: rounded(line[name], DIGITS) for name in ("y", "low", "high") if line[name] is not None}
    sent = {name: value for name, value in line.items() if name != "keys"}
    return {**sent, "x": rounded(line["x"], X_DIGITS), **columns}


def rounded(values: Sequence[Value], digits: int) -> list[Value]:
    return [float(f"{value:.{digits}g}") if isinstance(value, float) else value for value in values]


def _nothing() -> None:
    """Streamlit gives a component a state only along with a callback."""


@cache
def _component() -> Any:  # noqa: ANN401 (Streamlit's renderer; its type is not public)
    # A chart may be mounted before the library's message has been read: it waits for the same promise.
    return st.components.v2.component("asym_chart", js=_loader("draw"))


@cache
def _grid() -> Any:  # noqa: ANN401
    return st.components.v2.component("asym_grid", js=_loader("draw.grid"))


@cache
def _tails() -> Any:  # noqa: ANN401
    return st.components.v2.component("asym_chart_tails", js=_loader("draw.tails"))


@cache
def _when_drawn() -> Any:  # noqa: ANN401
    return st.components.v2.component("asym_chart_drawn", js=_loader("draw.whenDrawn"))


def _loader(function: str) -> str:
    return f"""
    export default async function (component) {{
      globalThis.asymChart ??= Promise.withResolvers();
      const draw = await globalThis.asymChart.promise;
      return {function}(component);
    }}
    """


@cache
def _library() -> Any:  # noqa: ANN401
    return st.components.v2.component("asym_chart_library", js=library_source())


def library_source() -> str:
    """uPlot, the styles and our scripts as one JavaScript module that hands out `draw`."""
    here = files(__package__)
    styles = "".join((here / name).read_text("utf-8") for name in ("uplot.min.css", "chart.css", "tools.css"))
    library, *ours = ((here / name).read_text("utf-8") for name in ("uplot.iife.min.js", *SCRIPTS))
    hand_out = """
    globalThis.asymChart ??= Promise.withResolvers();
    globalThis.asymChart.resolve(Object.assign(draw, { grid: drawGrid, tails: receiveTails, whenDrawn }));
    export default function () {}
    """
    return "\n".join([library, f"const STYLE = {json.dumps(styles)};", *ours, hand_out])
