"""The one chart of the dashboard: lines, stacked shares or a heatmap over steps, drawn by uPlot in the browser.

    chart.scripts()                       once per page, before the first chart
    chart.show(Chart(...), key="entropy")

Streamlit's own charts are replaced, or lose their zoom, whenever their data changes; this component is fed instead.
Its code (60 kB) travels once per session in a message of its own, so that a refresh carries numbers only.
What belongs on a chart is decided in dashboard/panels.py; uPlot is vendored with its licence (LICENSE-uplot).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import streamlit as st

Value = float | int | None
Color = tuple[str, str]
"""On a light and on a dark background."""


@dataclass(frozen=True)
class Line:
    """One series: `y[i]` at step `x[i]`. None is undefined there and drawn as a gap, never as 0."""

    label: str
    color: Color
    x: Sequence[int]
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


@dataclass(frozen=True)
class Heatmap:
    """`z[i][j]`: how many groups of step `x[i]` had j correct rollouts."""

    x: Sequence[int]
    z: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Chart:
    title: str
    subtitle: str = ""
    """What is measured and in which unit, in a few words."""
    series: Sequence[Line] = ()
    kind: Literal["lines", "stack", "heatmap"] = "lines"
    unit: Literal["", "%"] = ""
    """`%` shows a fraction of 1 as a percentage."""
    x_label: str = "step"
    height: int = 220
    y_min: float | None = None
    y_max: float | None = None
    """Ends of the axis as long as the data lies within them, and lines not far from the lower one."""
    log: bool = False
    smooth: float = 0.0
    """Weight of the exponential moving average, 0 (raw) to below 1; the raw line stays, faint."""
    sync: str = ""
    """Charts with the same non-empty name share cursor and zoom."""
    empty: str = "No values yet"
    heatmap: Heatmap = field(default_factory=lambda: Heatmap([], []))


def show(chart: Chart, *, key: str, on_range: Callable[[], None] | None = None) -> tuple[int, int] | None:
    """Draw the chart; the steps that the user has zoomed in on, or None for all of them.

    `key` names this place of the page: the same key on the next run feeds the chart that is already there.
    """
    result = _component()(data=payload(chart), key=key, on_range_change=on_range or _nothing)
    chosen = result.get("range")
    return (int(chosen[0]), int(chosen[1])) if chosen else None


def scripts() -> None:
    """Bring the chart's code to the browser. The message is the same each time, so Streamlit sends it once."""
    _library()(key="asym-chart-library")


def payload(chart: Chart) -> dict[str, Any]:
    """The chart as the JSON that chart.js reads."""
    return {**asdict(chart), "series": [_compact(asdict(line)) for line in chart.series]}


def _compact(line: Mapping[str, Any]) -> dict[str, Any]:
    """Six significant digits are more than a screen shows, and half of what a double takes as text."""
    columns = {name: _rounded(line[name]) for name in ("y", "low", "high") if line[name] is not None}
    return {**line, **columns}


def _rounded(values: Sequence[Value]) -> list[Value]:
    return [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]


def _nothing() -> None:
    """Streamlit gives a component a state only along with a callback."""


@cache
def _component() -> Any:  # noqa: ANN401 (Streamlit's renderer; its type is not public)
    # A chart may be mounted before the library's message has been read: it waits for the same promise.
    loader = """
    export default async function (component) {
      globalThis.asymChart ??= Promise.withResolvers();
      const draw = await globalThis.asymChart.promise;
      return draw(component);
    }
    """
    return st.components.v2.component("asym_chart", js=loader)


@cache
def _library() -> Any:  # noqa: ANN401
    return st.components.v2.component("asym_chart_library", js=library_source())


def library_source() -> str:
    """uPlot, the styles and chart.js as one JavaScript module that hands out `draw`."""
    here = files(__package__)
    read = {name: (here / name).read_text("utf-8") for name in ("uplot.iife.min.js", "uplot.min.css", "chart.css")}
    style = json.dumps(read["uplot.min.css"] + read["chart.css"])
    hand_out = """
    globalThis.asymChart ??= Promise.withResolvers();
    globalThis.asymChart.resolve(draw);
    export default function () {}
    """
    chart = (here / "chart.js").read_text("utf-8")
    return "\n".join([read["uplot.iife.min.js"], f"const STYLE = {style};", chart, hand_out])
