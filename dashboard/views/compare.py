"""Several runs over each other: the same metrics on one axis, what their configurations differ in, who is best.

Which runs, which metrics and the smoothing are in the URL: a copied link shows the same comparison.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from client import Asym
from dashboard import chart, colors, curves, live, panels, wording
from dashboard.comparison import Run, choices, extreme, labels, overlay, summary
from dashboard.differences import differing
from dashboard.live import Feed

RECENT = 100
MAX_POINTS = 600
DEFAULT_KEYS = ("group/accuracy", "entropy/informative", "entropy/spurious", "policy/grad_norm")


def show(api: Asym) -> None:
    st.title("Compare")
    with live.api_trouble():
        feed = Feed(api)
        recent = feed.get("compare/recent", lambda api: api.jobs_page(limit=RECENT))["data"]
        asked = _listed("jobs")
        jobs = {job["id"]: job for job in recent}
        # A link may name runs older than the newest hundred.
        for job_id in asked:
            if job_id not in jobs:
                jobs[job_id] = feed.get(f"job/{job_id}", lambda api, job_id=job_id: api.job(job_id))  # type: ignore[misc]
        names = labels({job_id: job["name"] for job_id, job in jobs.items()})
        picked = st.multiselect(
            "Runs",
            list(jobs),
            default=asked,
            key="compare-jobs",
            format_func=lambda job_id: names.get(job_id, job_id),
            on_change=_remember,
            args=("jobs", "compare-jobs"),
            placeholder="Choose two or more runs",
            max_selections=50,
        )
        if not picked:
            st.info("Choose runs above to lay their curves over each other.", icon=":material/stacked_line_chart:")
            return
        runs = [_run(feed, job_id, names[job_id]) for job_id in picked]
        known = curves.by_run(feed.get(f"compare/keys/{picked}", lambda api: api.compare(picked, max_points=2)))
        offered = choices(known.values(), _listed("keys"))
        left, right = st.columns([5, 2], gap="medium")
        keys = left.multiselect(
            "Metrics",
            offered,
            default=_listed("keys") or [key for key in DEFAULT_KEYS if key in offered],
            key="compare-keys",
            on_change=_remember,
            args=("keys", "compare-keys"),
        )
        smooth = right.slider("Smoothing", 0.0, 0.95, 0.0, 0.05, key="smooth", bind="query-params", format="%.2f")
        feed.tell()
        active = any(run.status in wording.ACTIVE for run in runs)
        st.fragment(run_every=live.TICK if active else None)(_curves)(api, runs, keys, smooth)
        _configurations(runs)


def _listed(parameter: str) -> list[str]:
    return list(dict.fromkeys(part for part in st.query_params.get(parameter, "").split(",") if part))


def _remember(parameter: str, key: str) -> None:
    chosen = st.session_state[key]
    if chosen:
        st.query_params[parameter] = ",".join(chosen)
    else:
        st.query_params.pop(parameter, None)


def _run(feed: Feed, job_id: str, label: str) -> Run:
    job = feed.get(f"job/{job_id}", lambda api: api.job(job_id))
    return Run(job_id, label, job["status"], job["progress"]["step"], job["spec"])


def _curves(api: Asym, runs: Sequence[Run], keys: Sequence[str], smooth: float) -> None:
    if not keys:
        st.info("Choose a metric.")
        return
    with live.api_trouble():
        feed = Feed(api)
        ids = [run.id for run in runs]
        asked = [*keys, *(f"{key}/{end}" for key in keys if key.startswith("eval/") for end in ("low", "high"))]
        answer = feed.get(
            f"compare/{','.join(ids)}/{','.join(keys)}", lambda api: api.compare(ids, asked, max_points=MAX_POINTS)
        )
        columns = curves.by_run(answer)
        feed.tell()
        styles = colors.of_runs(ids)
        cells: list[Any] = []
        for key in keys:
            if not cells:
                cells = list(st.columns(2, gap="medium"))
            with cells.pop(0):
                panel = panels.finished(overlay(key, runs, columns, styles), smooth=smooth, sync="compare")
                chart.show(panel, key=f"compare-{key}")
        st.subheader("Summary", anchor=False)
        _summary(summary(runs, columns, keys), keys)


def _summary(rows: list[dict[str, Any]], keys: Sequence[str]) -> None:
    config = st.column_config
    columns: dict[str, Any] = {
        "run": config.TextColumn("Run", width=200, pinned=True),
        "status": config.TextColumn("Status", width=90),
        "step": config.NumberColumn("Step", width=70),
    }
    for key in keys:
        columns[f"{key} last"] = config.NumberColumn(f"{key}, last", format="%.4g")
        columns[f"{key} extreme"] = config.TextColumn(extreme(key), alignment="right")
    st.dataframe(rows, hide_index=True, column_config=columns, key="compare-summary", placeholder=wording.NOTHING)


def _configurations(runs: Sequence[Run]) -> None:
    st.subheader("Configuration: what differs", anchor=False)
    if len(runs) < 2:
        st.caption("Two runs or more have differences.")
        return
    found: Mapping[str, list[str]] = differing([run.spec for run in runs])
    if not found:
        st.caption("Nothing: the same configuration, name aside.")
        return
    rows = [
        {"field": field, **dict(zip((run.label for run in runs), held, strict=True))} for field, held in found.items()
    ]
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"field": st.column_config.TextColumn("Field", width=230, pinned=True)},
        key="compare-config",
    )
