"""Where the time goes: phases, throughput and memory over the clock, and what kept the run from training.

A run whose trainer did not note when its steps were done is drawn over steps.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dashboard import colors
from dashboard.chart import Chart, Line, Span
from dashboard.colors import Color
from dashboard.curves import Columns, in_stretches, line, present, values
from dashboard.panels.section import Section, Spec, Subject, lines
from dashboard.timeline import Period

FINISHED = "perf/finished_at"
_KEYS = [
    *(f"perf/{name}_seconds" for name in ("step", "rollout", "reward", "update")),
    *("perf/tokens_per_second", "perf/peak_memory_bytes", "perf/engine_memory_bytes", FINISHED),
]
SHADES: Mapping[str, tuple[str, Color]] = {
    "waiting": ("waits in the queue", colors.ORANGE),
    "starting": ("starts", colors.GRAY),
    "paused": ("paused", colors.PURPLE),
    "lost": ("worker lost", colors.VERMILION),
}


def _charts(columns: Columns, subject: Subject) -> dict[str, Chart]:
    charts = {
        "phases": Chart("Time of a step", "seconds by phase", _phases(columns), kind="stack", y_min=0.0),
        "tokens": Chart(
            "Throughput",
            "response tokens per second, while a step runs",
            lines(columns, ("perf/tokens_per_second", "tokens/s", colors.BLUE)),
            y_min=0.0,
        ),
        "memory": Chart(
            "Peak memory",
            "bytes, since the attempt began",
            lines(
                columns,
                ("perf/peak_memory_bytes", "trainer", colors.BLUE),
                ("perf/engine_memory_bytes", "engine's own process", colors.ORANGE),
            ),
            y_min=0.0,
        ),
        "progress": _progress(columns),
    }
    moments = clock(columns)
    if not moments:
        del charts["progress"]
        return charts
    shaded = spans(subject.periods, max(moments.values()))
    away = [(span.low, span.high) for span in shaded]
    return {
        name: replace(
            chart,
            x_label="time",
            series=[over_time(each, moments, away) for each in chart.series],
            spans=shaded,
        )
        for name, chart in charts.items()
    }


def clock(columns: Columns) -> dict[int, float]:
    """Step -> when it was done, seconds since 1970, of the steps for which that is known."""
    return {
        step: round(float(at), 1)
        for step, at in zip(*values(columns, FINISHED), strict=True)
        if isinstance(at, int | float)
    }


def over_time(series: Line, moments: Mapping[int, float], away: Sequence[tuple[float, float]]) -> Line:
    """The line over the clock. Where the run was not training it has a gap, and does not pretend to go on."""
    known = sorted(moments)
    points = [
        (at, value) for step, value in zip(series.x, series.y, strict=True) if (at := _when(step, known, moments))
    ]
    cut: list[tuple[float, float | int | None]] = []
    for at, value in sorted(points, key=lambda point: point[0]):
        if cut and any(low < at and high > cut[-1][0] for low, high in away):
            cut.append(((cut[-1][0] + at) / 2, None))
        cut.append((at, value))
    if cut and away and min(low for low, _ in away) < cut[0][0]:
        cut.insert(0, (min(low for low, _ in away), None))  # the axis begins with the wait before the first step
    return replace(series, x=[at for at, _ in cut], y=[value for _, value in cut], low=None, high=None, notes=None)


def _when(step: float, known: Sequence[int], moments: Mapping[int, float]) -> float | None:
    """When a step was done; between two of thinned curves as if all steps there took the same time. None outside."""
    if not known or not known[0] <= step <= known[-1]:
        return None
    above = bisect_left(known, step)
    if known[above] == step:
        return moments[known[above]]
    before, after = known[above - 1], known[above]
    share = (step - before) / (after - before)
    return round(moments[before] + share * (moments[after] - moments[before]), 1)


def spans(periods: Sequence[Period], newest: float) -> list[Span]:
    """newest: the end of what is drawn, up to where a period that goes on is shaded."""
    return [
        Span(
            each.start, max(each.end or newest, each.start), SHADES[each.kind][0], SHADES[each.kind][1], note=each.note
        )
        for each in periods
    ]


def _phases(columns: Columns) -> list[Line]:
    phases = [
        line(columns, "perf/rollout_seconds", "rollout", colors.BLUE),
        line(columns, "perf/reward_seconds", "reward", colors.GREEN),
        line(columns, "perf/update_seconds", "update", colors.VERMILION),
    ]
    whole = line(columns, "perf/step_seconds", "rest", colors.GRAY)
    if not whole.x:
        return in_stretches(present(phases))
    total, *parts = in_stretches([whole, *present(phases)])
    rest = [
        None if seconds is None else max(0.0, seconds - sum(part.y[at] or 0.0 for part in parts))
        for at, seconds in enumerate(total.y)
    ]
    return present([*parts, replace(total, y=rest)])


def _progress(columns: Columns) -> Chart:
    steps = sorted(clock(columns))
    drawn = [Line("step", colors.BLUE, steps, steps, keys=[FINISHED])] if steps else []
    return Chart("Steps done", "a flat stretch is time without training", drawn, y_min=0.0)


def _keys(spec: Spec) -> list[str]:
    del spec
    return list(_KEYS)


SECTION = Section(_keys, _charts)
