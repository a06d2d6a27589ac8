"""A comparison in a browser that was never here: its first chart, before everything else.

Whoever opens a link waits for a chart. So the first run of the page asks the API for one metric and draws it where it
will stay; what is chosen above, the other charts and the tables come with the next run, for which the browser asks as
soon as it has drawn that chart. Without it, the browser would build thirty controls and two tables first.
"""

from typing import Any

import streamlit as st

from client import Asym, AsymError, Unreachable
from dashboard import chart, colors, comparison
from dashboard.comparison import Look, Material, Run
from dashboard.kept_curves import JOBS_AT_ONCE, Question, up_to_date
from dashboard.live import Feed
from dashboard.views import compare_curves, compare_runs

OTHER_LOOKS = frozenset({"section", "x", "seeds", "least", "page"})
"""What of an address asks for another look than the first one, which needs to know more than curves."""
AFTERWARDS = 5.0
"""Seconds after which the rest comes though no chart was drawn: browsers draw none in a tab that is not looked at."""
SETTINGS, CURVES = "compare-settings", "compare-curves"
"""The keys of what holds the controls, and of what holds the charts: the page's style keeps the place of the ones while
the others are there, so that charts stay where they are while controls come one after the other."""


def show(api: Asym, settings: Any, charts: Any) -> bool:  # noqa: ANN401 (containers)
    """Draw the first chart of a session's first comparison; whether that was done, and the rest is to follow."""
    state = st.session_state.setdefault(compare_curves.STATE, {})
    first = "opened" not in state
    state.setdefault("opened", 0)
    given = compare_runs.chosen(st.query_params.get("jobs", ""))
    if not first or not given or len(given) > JOBS_AT_ONCE or OTHER_LOOKS & set(st.query_params.keys()):
        return False
    settings.empty()  # a container in which nothing is takes no place
    with charts.container(key=CURVES):
        if not st.fragment(_first_chart)(api, given):
            return False
    chart.when_drawn(_nothing, key="compare-opened")
    _go_on()
    return True


def _first_chart(api: Asym, given: dict[str, int | None]) -> bool:
    state = st.session_state[compare_curves.STATE]
    key = (compare_curves.listed("keys") or compare_curves.DEFAULT_KEYS)[0]
    points = compare_curves.points_of(len(given))
    try:
        # Its notice has the place of the one that the charts will have.
        kept = up_to_date(
            Feed(api), state, "first", Question(tuple(given), comparison.asked_for([key], "step"), points)
        )
    except (AsymError, Unreachable):
        return False  # the whole page tells what is wrong
    labels = comparison.labels(kept.names)
    runs = [Run(job_id, labels[job_id], kept.status[job_id], 0, {}) for job_id in given]
    styles = colors.of_runs(given, {job_id: place for job_id, place in given.items() if place is not None})
    look = Look(
        log=compare_curves.is_on("log"),
        smooth=compare_curves.weight_of(st.query_params.get("smooth", "")),
        clip=compare_curves.CLIPPED if compare_curves.is_on("clip") else 0.0,
        zoom=compare_curves.zoom_of(st.query_params.get("zoom", "")),
    )
    groups = comparison.groups(runs, look.band)
    compare_curves.draw(api, state, groups, [key], Material(kept.columns, styles), look)
    return True


def _nothing() -> None:
    """The run itself is what is asked for."""


@st.fragment(run_every=AFTERWARDS)
def _go_on() -> None:
    """Runs with the page, and again where the whole page has not come in time."""
    state = st.session_state[compare_curves.STATE]
    state["opened"] += 1
    if state["opened"] == 2:
        st.rerun()
