"""The charts of a comparison and its summary table: the part of the page that repeats itself while a run goes on."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from client import Asym
from client.results import Clock
from dashboard import axes, colors, comparison, curves, export, live, seeds, wording
from dashboard.chart.live import Sender
from dashboard.comparison import Group, Look, Material, Run
from dashboard.kept_curves import JOBS_AT_ONCE, KeptCurves, Question, up_to_date
from dashboard.live import Feed

POINTS, FEWEST_POINTS, POINTS_OF_A_CHART = 600, 60, 12_000
"""Per curve: more than a chart half a screen wide has columns of pixels; fewer where there are many runs."""
SUMMARY_POINTS = 100
DEFAULT_KEYS = ("group/accuracy", "entropy/informative", "entropy/spurious", "policy/grad_norm")
STATE = "asym_compare"
CLIPPED = 0.01
"""Of a metric's values, at either end: the axis need not hold them where outliers are clipped."""
HEAVIEST = 0.99
"""The weight of the strongest smoothing."""


def show(api: Asym, runs: Sequence[Run], styles: Mapping[str, colors.Style], keys: Sequence[str], look: Look) -> None:
    if not keys:
        st.info("Choose a metric.")
        return
    with live.api_trouble():
        feed = Feed(api)
        state = st.session_state.setdefault(STATE, {})
        zoom = zoom_of(st.query_params.get("zoom", ""))
        look = Look(**{**vars(look), "zoom": zoom})
        kept = up_to_date(feed, state, "curves", question(runs, keys, look))
        columns = _closer(feed, state, kept, look)
        ends = kept
        if look.band != seeds.APART:
            # What is thinned to the same steps has lost its extremes.
            ends = up_to_date(feed, state, "ends", Question(kept.question.job_ids, tuple(keys), SUMMARY_POINTS))
        clocks = _clocks(feed, state, kept) if axes.needs_clock(look.axis) else {}
        feed.tell()
        if not kept.active and any(run.status in wording.ACTIVE for run in runs):
            st.rerun()  # all have ended: nothing to look at again
        now = [Run(**{**vars(run), "status": kept.status.get(run.id, run.status)}) for run in runs]
        shown = comparison.groups(now, look.band)
        draw(api, state, shown, keys, Material(columns, styles, clocks), look)
        address = export.address(api, kept.question.job_ids, keys, state.setdefault("exports", {}))
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
            st.subheader("Summary", anchor=False, width="content")
            st.link_button("All points as CSV", address, icon=":material/download:")
        _summary(comparison.summary(shown, ends.columns, keys), keys, grouped=look.band != seeds.APART)


def question(runs: Sequence[Run], keys: Sequence[str], look: Look) -> Question:
    asked = comparison.asked_for(keys, look.axis)
    return Question(
        tuple(run.id for run in runs),
        asked,
        points_of(len(runs)),
        "extremes" if look.band == seeds.APART else "same_steps",
    )


def points_of(runs: int) -> int:
    """How many of each curve are asked for."""
    return max(FEWEST_POINTS, min(POINTS, POINTS_OF_A_CHART // runs))


def _closer(feed: Feed, state: dict[str, Any], kept: KeptCurves, look: Look) -> Mapping[str, curves.Columns]:
    """The curves, where one has zoomed in on steps at full detail."""
    thinned = any(
        series["step"] and series["step"][-1] > kept.question.max_points
        for columns in kept.columns.values()
        for series in columns.values()
    )
    if look.zoom is None or look.axis != axes.STEP or not thinned:
        return kept.columns
    within = (int(look.zoom[0]), int(look.zoom[1]))
    asked = kept.question
    detail = up_to_date(
        feed, state, "detail", Question(asked.job_ids, asked.keys, asked.max_points, asked.thinned, within)
    )
    return {
        job_id: curves.finer(columns, detail.columns.get(job_id, {}), within)
        for job_id, columns in kept.columns.items()
    }


def _clocks(feed: Feed, state: dict[str, Any], kept: KeptCurves) -> Mapping[str, Clock]:
    """Asked for along with whole curves; in between the last pace goes on."""
    asked = (kept.question.job_ids, kept.renewed)
    if state.get("clocks-of") != asked:
        ids = kept.question.job_ids
        found: dict[str, Clock] = {}
        for start in range(0, len(ids), JOBS_AT_ONCE):
            part = ids[start : start + JOBS_AT_ONCE]
            found |= feed.get(f"compare/clocks/{part}", lambda api, part=part: api.clocks(part))  # type: ignore[misc]
        state["clocks-of"], state["clocks"] = asked, found
    clocks: Mapping[str, Clock] = state["clocks"]
    return clocks


def draw(
    api: Asym, state: dict[str, Any], shown: Sequence[Group], keys: Sequence[str], material: Material, look: Look
) -> None:
    sender: Sender = state.setdefault("sender", Sender())
    ids = [run.id for group in shown for run in group.runs]
    cells: list[Any] = []
    with sender.refresh(key="compare-tails") as refresh:
        for key in keys:
            if not cells:
                cells = list(st.columns(2, gap="medium"))
            csv = export.address(api, ids, [key], state.setdefault("exports", {}))
            drawn = comparison.overlay(key, shown, material, Look(**{**vars(look), "csv": csv}))
            name = f"compare-{key}"
            with cells.pop(0):
                refresh.show(drawn, key=name, on_range=partial(_zoomed, name))


def _summary(rows: Sequence[Mapping[tuple[str, str], Any]], keys: Sequence[str], *, grouped: bool) -> None:
    """Metrics are named above their columns, which need be no wider than their numbers: four have room side by side."""
    config = st.column_config
    told = "Sample standard deviation of the last values over seeds"
    columns: dict[tuple[str, str], Any] = {
        ("", "run"): config.TextColumn("Run", width=136, pinned=True),
        ("", "runs"): config.NumberColumn("Runs", width=46, help="How many seeds"),
        ("", "status"): config.TextColumn("Status", width=80),
        ("", "step"): config.NumberColumn("Step", width=54, help="Of a group, the least"),
    }
    for key in keys:
        fraction = comparison.is_fraction(key)
        columns[key, "last"] = config.NumberColumn("last", width=64, format="%.1f %%" if fraction else "%.4g")
        spread = config.NumberColumn("± s.d.", width=60, format="%.1f %%" if fraction else "%.2g", help=told)
        columns[key, "spread"] = spread
        columns[key, "extreme"] = config.TextColumn(comparison.extreme(key), alignment="right")
    if not grouped:
        of_groups = [("", "runs"), *((key, "spread") for key in keys)]
        columns = {name: column for name, column in columns.items() if name not in of_groups}
    names = pd.MultiIndex.from_tuples(columns)
    # By number, since their names are pairs (Streamlit's types know of texts only); the hidden index is the first.
    by_number: Any = dict(enumerate(columns.values(), start=1))
    st.dataframe(
        pd.DataFrame([[row[name] for name in columns] for row in rows], columns=names),
        hide_index=True,
        column_config=by_number,
        key="compare-summary",
        placeholder=wording.NOTHING,
    )


# ---- what of it is in the address ----


def is_on(name: str) -> bool:
    """Whether the address says so of a toggle."""
    return str(st.query_params.get(name, "")) == "true"


def weight_of(parameter: str) -> float:
    """Of smoothing; 0 for what is none."""
    try:
        weight = float(parameter)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= HEAVIEST else 0.0


def zoom_of(parameter: str) -> tuple[float, float] | None:
    """Of `120,480.5`; None for what is no range."""
    parts = parameter.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        return None
    return (low, high) if 0 <= low < high < float("inf") else None


def listed(parameter: str) -> list[str]:
    return list(dict.fromkeys(part for part in st.query_params.get(parameter, "").split(",") if part))


def _zoomed(key: str) -> None:
    found = (st.session_state.get(key) or {}).get("range")
    if found:
        st.query_params["zoom"] = f"{found[0]:.8g},{found[1]:.8g}"
    else:
        st.query_params.pop("zoom", None)
