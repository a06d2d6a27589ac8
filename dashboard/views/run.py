"""One run: where it stands, what it learns, what it explores, and what it says."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, TypeAlias

import streamlit as st
import yaml
from streamlit.delta_generator import DeltaGenerator

from client import Asym
from dashboard import chart, curves, live, panels, wording
from dashboard.differences import in_order
from dashboard.live import Feed
from dashboard.views import history, rollouts

MAX_POINTS = 600
"""Points per curve: more than a chart half a screen wide has columns of pixels."""
SECTIONS = (*panels.SECTIONS, "Rollouts", "Events", "Config")
BADGES: dict[str, tuple[Any, str]] = {
    "queued": ("gray", ":material/hourglass_empty:"),
    "running": ("blue", ":material/play_arrow:"),
    "pausing": ("orange", ":material/pause:"),
    "paused": ("orange", ":material/pause:"),
    "cancelling": ("orange", ":material/cancel:"),
    "cancelled": ("gray", ":material/cancel:"),
    "succeeded": ("green", ":material/check:"),
    "failed": ("red", ":material/error:"),
}


OpenRun: TypeAlias = Callable[[str], NoReturn]


def show(api: Asym, open_run: OpenRun, compare_with: Callable[[str], None], clone: Callable[[str], None]) -> None:
    job_id = st.query_params.get("job", "")
    if not job_id:
        st.info("No run is chosen. Open one from the list of runs.")
        return
    with live.api_trouble():
        feed = Feed(api)
        job = feed.get(f"job/{job_id}", lambda api: api.job(job_id))
        every = _every(job["status"])
        _title(api, job, open_run, compare_with, clone)
        st.fragment(run_every=every)(_state)(api, job_id, job["status"])
        left, right = st.columns([4, 1.2], vertical_alignment="bottom")
        section = left.segmented_control(
            "Section",
            SECTIONS,
            default=SECTIONS[0],
            required=True,
            key="section",
            bind="query-params",
            label_visibility="collapsed",
        )
        _section(api, job, str(section), every, right)


def _every(status: str) -> float | None:
    if status in wording.ACTIVE:
        return live.TICK
    return live.IDLE if status == "paused" else None


def _title(
    api: Asym,
    job: Mapping[str, Any],
    open_run: OpenRun,
    compare_with: Callable[[str], None],
    clone: Callable[[str], None],
) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.header(wording.inert(job["name"]), anchor=False, width="content")
        with st.container(horizontal=True, width="content"):
            for action in _actions(job["status"]):
                if st.button(action.capitalize(), key=f"do-{action}", icon=ACTION_ICONS[action]):
                    _confirm(api, job["id"], job["name"], action, open_run)
            if st.button("Clone", icon=":material/content_copy:"):
                clone(job["id"])
            if st.button("Compare", icon=":material/stacked_line_chart:"):
                compare_with(job["id"])


def _actions(status: str) -> list[str]:
    if status in ("queued", "running"):
        return ["pause", "cancel"]
    if status in ("pausing", "paused"):
        return ["resume", "cancel"]
    return ["retry"] if status in ("failed", "cancelled") else []


ACTION_ICONS = {
    "pause": ":material/pause:",
    "resume": ":material/play_arrow:",
    "cancel": ":material/cancel:",
    "retry": ":material/replay:",
}
CONSEQUENCES = {
    "pause": "It writes a checkpoint after the step in hand and frees its GPUs. It can be resumed.",
    "resume": "It goes back to the queue and goes on from its last checkpoint.",
    "cancel": "It stops after the step in hand. What it learned up to its last checkpoint can be retried from there.",
    "retry": "A new run goes on from its last checkpoint, with its metrics up to there. This one stays as it is.",
}


@st.dialog("Please confirm")
def _confirm(api: Asym, job_id: str, name: str, action: str, open_run: OpenRun) -> None:
    st.write(f"**{action.capitalize()} {wording.inert(name)}?**")
    st.code(job_id, language=None)
    st.write(CONSEQUENCES[action])
    if st.button(f"{action.capitalize()} this run", type="primary", key=f"confirm-{action}"):
        with live.api_trouble():
            ask = {"pause": api.pause, "resume": api.resume, "cancel": api.cancel, "retry": api.retry}[action]
            now = ask(job_id)
            if now["id"] != job_id:
                open_run(now["id"])
            st.rerun()


def _state(api: Asym, job_id: str, shown: str) -> None:
    """The line under the name. Part of the page that repeats itself while the run may change."""
    with live.api_trouble():
        feed = Feed(api)
        job = feed.get(f"job/{job_id}", lambda api: api.job(job_id))
        if job["status"] != shown:
            st.rerun()  # the buttons, and how often to look, depend on the status
        color, icon = BADGES[job["status"]]
        feed.tell()
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(job["status"], color=color, icon=icon)
            st.text(wording.progress_line(job, datetime.now(UTC)))
            st.caption(f"`{job['id']}`", width="content")
        progress = job["progress"]
        if job["status"] in wording.ACTIVE | {"paused"} and progress["steps"]:
            st.progress(min(1.0, progress["step"] / progress["steps"]))
        if job["preflight"]:
            st.caption(f"Before step 1: {wording.inert(job['preflight']['summary'])}")
        if job["failure"]:
            _failure(job["failure"])
        if job["pause_reason"]:
            st.warning(
                f"paused by the platform: {wording.inert(job['pause_reason']['message'])}", icon=":material/pause:"
            )


def _failure(failure: Mapping[str, Any]) -> None:
    whose = "in the run itself: retrying gives the same" if failure["kind"] == "user" else "in the infrastructure"
    st.error(f"**{wording.inert(failure['code'])}**, {whose}", icon=":material/error:")
    st.code("\n".join([failure["message"], *failure.get("evidence", [])]), language=None, wrap_lines=True)


def _section(api: Asym, job: Mapping[str, Any], section: str, every: float | None, corner: DeltaGenerator) -> None:
    job_id, spec = job["id"], job["spec"]
    if section in panels.SECTIONS:
        smooth = 0.0
        if section != "Throughput":
            smooth = corner.slider("Smoothing", 0.0, 0.95, 0.0, 0.05, key="smooth", bind="query-params", format="%.2f")
        st.fragment(run_every=every)(_charts)(api, job_id, spec, section, smooth)
    elif section == "Rollouts":
        rollouts.show(api, job)
    elif section == "Events":
        st.fragment(run_every=every)(history.show)(api, job_id)
    else:
        text = yaml.safe_dump(in_order(spec), sort_keys=False, allow_unicode=True)
        st.caption("The resolved spec: presets and defaults filled in.")
        st.download_button("Download", text, file_name=f"{job_id}.yaml", mime="application/yaml")
        st.code(text, language="yaml")


def _charts(api: Asym, job_id: str, spec: Mapping[str, Any], section: str, smooth: float) -> None:
    with live.api_trouble():
        feed = Feed(api)
        columns = _columns(feed, job_id, panels.SECTIONS[section].keys(spec), section)
        feed.tell()
        drawn = panels.SECTIONS[section].charts(columns, spec)
        cells: list[Any] = []
        for name, panel in drawn.items():
            if not cells:
                cells = list(st.columns(2, gap="medium"))
            key = f"chart-{job_id}-{section}-{name}"
            ready = panels.finished(panel, smooth=smooth, sync=job_id)
            with cells.pop(0):
                chart.show(ready, key=key, on_range=partial(_zoomed, job_id, key) if ready.sync else None)


def _zoomed(job_id: str, key: str) -> None:
    state = st.session_state.get(key) or {}
    st.session_state[f"range/{job_id}"] = state.get("range")


def _columns(feed: Feed, job_id: str, keys: list[str], section: str) -> curves.Columns:
    """The section's curves, thinned out by the API; where the user has zoomed in on a long run, at full detail."""
    overview = feed.get(f"metrics/{job_id}/{section}", lambda api: api.metrics(job_id, keys, max_points=MAX_POINTS))[
        "keys"
    ]
    zoomed = st.session_state.get(f"range/{job_id}")
    if not zoomed or all(len(series["step"]) == 0 or series["step"][-1] <= MAX_POINTS for series in overview.values()):
        return overview
    low, high = max(0, int(zoomed[0])), max(0, int(zoomed[1]))
    detail = feed.get(
        f"metrics/{job_id}/{section}/{low}-{high}",
        lambda api: api.metrics(job_id, keys, from_step=low, to_step=high, max_points=MAX_POINTS),
    )["keys"]
    return curves.finer(overview, detail, (low, high))
