"""One run: where it stands, what it learns, what it explores, and what it says.

Of its sections only the one on screen is asked for and mounted; one request a tick brings what is new of its curves and
of those that the alerts are read from, another what is new in the run's journal.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import streamlit as st
import yaml
from streamlit.delta_generator import DeltaGenerator

from client import Asym
from dashboard import alerts, curves, export, live, panels, timeline, verdict, wording
from dashboard.alerts import Alert
from dashboard.chart import Chart
from dashboard.chart.live import Sender
from dashboard.differences import in_order
from dashboard.kept_curves import Question, up_to_date
from dashboard.live import Feed
from dashboard.panels import coverage, system
from dashboard.panels.section import Subject, benchmarks
from dashboard.views import history, rollouts, run_header
from dashboard.views.run_header import OpenRun

MAX_POINTS = 600
"""Points per curve: more than a chart half a screen wide has columns of pixels."""
SECTIONS = (*panels.SECTIONS, "Rollouts", "Events", "Config")
ONCE_CALLED = {"Learning": "Overview", "Throughput": "System"}
"""Sections of links that were copied before they were called as now."""
ALERTS_SHOWN = 6
STATE = "asym_run"
TONES: dict[str, tuple[Any, str]] = {
    "good": ("green", ":material/trending_up:"),
    "bad": ("red", ":material/warning:"),
    "plain": ("gray", ":material/info:"),
}


def show(api: Asym, open_run: OpenRun, compare_with: Callable[[str], None], clone: Callable[[str], None]) -> None:
    job_id = st.query_params.get("job", "")
    if not job_id:
        st.info("No run is chosen. Open one from the list of runs.")
        return
    with live.api_trouble():
        feed = Feed(api)
        job = feed.get(f"job/{job_id}", lambda api: api.job(job_id))
        every = _every(job["status"])
        run_header.title(api, job, open_run, compare_with, clone)
        st.fragment(run_every=every)(run_header.state)(api, job_id, job["status"])
        left, right = st.columns([5, 1.2], vertical_alignment="bottom")
        asked = st.query_params.get("section", "")
        # Set beforehand, since an alert may ask for another one, and a widget has a default or a value of its own.
        st.session_state.setdefault("section", ONCE_CALLED.get(asked, asked if asked in SECTIONS else SECTIONS[0]))
        section = left.segmented_control(
            "Section",
            SECTIONS,
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


def _section(api: Asym, job: Mapping[str, Any], section: str, every: float | None, corner: DeltaGenerator) -> None:
    job_id, spec = job["id"], job["spec"]
    if section in panels.SECTIONS:
        smooth = corner.slider(
            "Smoothing",
            0.0,
            0.95,
            0.0,
            0.05,
            key="smooth",
            bind="query-params",
            format="smoothing %.2f",
            label_visibility="collapsed",
        )
        st.fragment(run_every=every)(_charts)(api, job, section, smooth)
    elif section == "Rollouts":
        rollouts.show(api, job)
    elif section == "Events":
        st.fragment(run_every=every)(history.show)(api, job_id)
    else:
        text = yaml.safe_dump(in_order(spec), sort_keys=False, allow_unicode=True)
        st.caption("The resolved spec: presets and defaults filled in.")
        st.download_button("Download", text, file_name=f"{job_id}.yaml", mime="application/yaml")
        st.code(text, language="yaml")


def _charts(api: Asym, job: Mapping[str, Any], section: str, smooth: float) -> None:
    job_id, spec = job["id"], job["spec"]
    with live.api_trouble():
        feed = Feed(api)
        if section == "Overview":
            # Its verdict tells where the run stands now.
            job = feed.get(f"job/{job_id}", lambda api: api.job(job_id))
        columns = _columns(feed, job_id, [*panels.SECTIONS[section].keys(spec), *alerts.KEYS])
        events = history.events(feed, job_id)
        feed.tell()
        found = alerts.found(columns, events)
        # In one place of the page, whatever is in it: an element more would move the charts, and so mount them anew.
        with st.container():
            if section == "Overview":
                _verdict(job, columns, found)
                if found or job["progress"]["step"] > 0:
                    _alerts(job_id, found)
            chosen = _chosen_steps(columns, spec) if section == "Coverage" else ()
        moments = sorted(system.clock(columns).values()) if section == "System" else ()
        subject = Subject(spec, chosen, timeline.periods(events, moments))
        drawn = alerts.shade(panels.SECTIONS[section].charts(columns, subject), found, partial(_address, job_id))
        _draw(api, job_id, section, drawn, smooth)
        if st.session_state.pop("run-moved", False):
            st.rerun()  # to the section that was asked for from within this one


def _draw(api: Asym, job_id: str, section: str, drawn: Mapping[str, Chart], smooth: float) -> None:
    state = st.session_state.setdefault(STATE, {})
    sender: Sender = state.setdefault("sender", Sender())
    cells: list[Any] = []
    with sender.refresh(key="run-tails") as refresh:
        for name, panel in drawn.items():
            if not cells:
                cells = list(st.columns(2, gap="medium"))
            key = f"chart-{job_id}-{section}-{name}"
            csv = export.address(api, [job_id], panel.metrics, state.setdefault("exports", {})) if panel.metrics else ""
            ready = panels.finished(panel, smooth=smooth, sync=job_id, csv=csv)
            zoomed = partial(_zoomed, job_id, key) if ready.sync == job_id else None
            with cells.pop(0):
                refresh.show(ready, key=key, on_range=zoomed, on_step=partial(_step_clicked, job_id, key))


def _verdict(job: Mapping[str, Any], columns: curves.Columns, found: Sequence[Alert]) -> None:
    told = verdict.verdict(job, columns, found, [(name, ks[0]) for name, ks in benchmarks(job["spec"])])
    for cell, sentence in zip(st.columns(len(told), gap="small"), told, strict=True):
        color, icon = TONES[sentence.tone]
        with cell.container(border=True, height="stretch", gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.caption(sentence.about, width="content")
                st.badge(sentence.head, color=color, icon=icon)
            st.text(sentence.text.replace(" %", "\u00a0%"))  # a number and its sign stay on one line


def _alerts(job_id: str, found: Sequence[Alert]) -> None:
    """Newest first. Their messages come from a trainer."""
    if not found:
        st.caption(
            "No alert: nothing that is measured of entropy, gradients, truncation and the engine is out of bounds."
        )
    for alert in list(reversed(found))[:ALERTS_SHOWN]:
        what, said, way = st.columns([1.3, 6, 1.4], vertical_alignment="center")
        what.badge(wording.inert_badge(alert.title), color="orange", icon=":material/warning:")
        said.caption(wording.inert(" · ".join(part for part in (alert.where, alert.message) if part)))
        if alert.step is not None:
            way.button(
                f"Rollouts of step {alert.step}",
                key=f"alert-{alert.code}-{alert.first}",
                icon=":material/arrow_forward:",
                type="tertiary",
                on_click=_to_rollouts,
                args=(job_id, alert.step),
            )
    if len(found) > ALERTS_SHOWN:
        st.caption(f"and {len(found) - ALERTS_SHOWN} earlier ones; the charts show them all.")


def _address(job_id: str, step: int) -> str:
    """Of a step's rollouts: what the existing page reads."""
    return "run?" + urlencode({"job": job_id, "section": "Rollouts", "step": step})


def _step_clicked(job_id: str, key: str) -> None:
    step = (st.session_state.get(key) or {}).get("step")
    if step is not None:
        _to_rollouts(job_id, int(step))


def _to_rollouts(job_id: str, step: int) -> None:
    st.session_state["section"] = "Rollouts"
    st.session_state.pop(f"rollout-step-{job_id}", None)
    st.query_params["step"] = str(step)
    st.session_state["run-moved"] = True


def _chosen_steps(columns: curves.Columns, spec: Mapping[str, Any]) -> list[int]:
    measured = coverage.evaluated(columns, spec)
    if not measured:
        return []
    return [
        int(step)
        for step in st.multiselect(
            "Steps to lay over one another",
            measured,
            key="at",
            bind="query-params",
            max_selections=coverage.MOST_STEPS,
            placeholder="The first and the newest evaluation",
            width=520,
        )
    ]


def _zoomed(job_id: str, key: str) -> None:
    state = st.session_state.get(key) or {}
    st.session_state[f"range/{job_id}"] = state.get("range")


def _columns(feed: Feed, job_id: str, keys: Sequence[str]) -> curves.Columns:
    """The section's curves, thinned out by the API; where the user has zoomed in on a long run, at full detail."""
    state = st.session_state.setdefault(STATE, {})
    asked = tuple(dict.fromkeys(keys))
    overview = up_to_date(feed, state, "curves", Question((job_id,), asked, MAX_POINTS)).columns.get(job_id, {})
    zoomed = st.session_state.get(f"range/{job_id}")
    if not zoomed or all(len(series["step"]) == 0 or series["step"][-1] <= MAX_POINTS for series in overview.values()):
        return overview
    within = (max(0, int(zoomed[0])), max(0, int(zoomed[1])))
    detail = up_to_date(feed, state, "detail", Question((job_id,), asked, MAX_POINTS, steps=within))
    return curves.finer(overview, detail.columns.get(job_id, {}), within)
