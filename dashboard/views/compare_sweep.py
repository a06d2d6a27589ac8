"""Two fields of the configuration against a metric: where a sweep is good."""

from collections.abc import Sequence

import streamlit as st

from client import Asym
from dashboard import chart, comparison, live, sweep
from dashboard.comparison import Run
from dashboard.kept_curves import KeptCurves, Question
from dashboard.live import Feed

POINTS = 100
"""Enough for the newest value and the extremes."""
DEFAULT = "group/accuracy"


def show(api: Asym, runs: Sequence[Run]) -> None:
    fields = sweep.fields([run.spec for run in runs])
    if len(fields) < 2:
        st.info("A sweep needs two numeric fields in which these runs differ, such as beta_pos and beta_neg.")
        return
    offered = comparison.choices((run.keys for run in runs), [])
    if not offered:
        st.info("None of these runs has measured anything yet.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        rows = st.selectbox("Down", fields, key="down", bind="query-params", width=240)
        others = [field for field in fields if field != rows]
        columns = st.selectbox("Across", others, key="across", bind="query-params", width=240)
        preferred = offered.index(DEFAULT) if DEFAULT in offered else 0
        key = st.selectbox("Metric", offered, index=preferred, key="metric", bind="query-params", width=320)
        which = st.segmented_control(
            "Value", ["last", "best"], default="last", required=True, key="value", bind="query-params"
        )
    feed = Feed(api)
    question = Question(tuple(run.id for run in runs), (str(key),), POINTS)
    with live.api_trouble():
        found: KeptCurves = feed.get(
            f"compare/sweep/{question}", lambda api: KeptCurves(question).bring_up_to_date(api)
        )
        feed.tell()
        scores = {run.id: comparison.score(found.columns.get(run.id, {}), str(key), str(which)) for run in runs}
        told = f"{_called(str(key), str(which))} value, mean over the runs of a cell; ± one sample standard deviation"
        specs = {run.id: run.spec for run in runs}
        fraction = comparison.is_fraction(str(key))
        drawn = sweep.grid(str(key), told, specs, str(rows), str(columns), scores, fraction=fraction)
        chart.grid(drawn, key="compare-sweep")


def _called(key: str, which: str) -> str:
    if which == "last":
        return "newest"
    return "lowest" if comparison.extreme(key) == "lowest" else "highest"
