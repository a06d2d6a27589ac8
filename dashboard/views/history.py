"""What happened to a run: its events, checkpoints and log lines. Fetched as they come, never twice."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from client import Asym
from dashboard import live, wording
from dashboard.live import Feed

KEPT = 5000
"""Newest entries held per run; older ones are with the API."""
LOG_LINES = 400
LEVELS = ("info", "warning", "error")
LEVEL_COLORS = ("gray", "orange", "red")


def show(api: Asym, job_id: str) -> None:
    with live.api_trouble():
        feed = Feed(api)
        events = _newer(feed, "events", job_id, lambda api, after: api.events(job_id, after=after, limit=500))
        lines = _newer(feed, "logs", job_id, lambda api, after: api.logs(job_id, after=after, limit=500))
        checkpoints = feed.get(f"checkpoints/{job_id}", lambda api: api.checkpoints(job_id))
        feed.tell()
        zone = ZoneInfo(st.context.timezone or "UTC")
        st.subheader("Events", anchor=False)
        _events([event for event in events if event["type"] != "step"], zone)
        if checkpoints:
            st.subheader("Checkpoints", anchor=False)
            _checkpoints(checkpoints, zone)
        st.subheader("Log", anchor=False)
        if lines:
            text = "\n".join(line["line"] for line in lines[-LOG_LINES:])
            st.code(text, language=None, wrap_lines=True, height=420)
        else:
            st.text("No line yet.")


def _newer(
    feed: Feed, what: str, job_id: str, fetch: Callable[[Asym, int], Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """What this session has of the run, and whatever came since, oldest first."""
    kept: list[Mapping[str, Any]] = st.session_state.setdefault(f"history/{what}/{job_id}", [])
    while True:
        after = kept[-1]["id"] if kept else 0
        page = feed.get(f"{what}/{job_id}", lambda api, after=after: fetch(api, after))  # type: ignore[misc]
        # The answer may be the last one before an outage, which is here already.
        fresh = [entry for entry in page["data"] if entry["id"] > after]
        kept.extend(fresh)
        if not fresh or not page["has_more"]:
            break
    del kept[:-KEPT]
    return kept


def _events(events: list[Mapping[str, Any]], zone: ZoneInfo) -> None:
    if not events:
        st.text("None yet.")
        return
    rows = [
        {
            "at": wording.clock(event["at"], zone),
            "level": [event["level"]],
            "type": event["type"],
            "message": event["message"],
            "attempt": event.get("attempt"),
        }
        for event in reversed(events)
    ]
    config = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        height=min(35 * (len(rows) + 1) + 3, 360),
        key="events-table",
        column_config={
            "at": config.TextColumn("Time", width=120),
            "level": config.MultiselectColumn("Level", options=LEVELS, color=LEVEL_COLORS, width=80),
            "type": config.TextColumn("Type", width=90),
            "message": config.TextColumn("Message", width=700),
            "attempt": config.NumberColumn("Attempt", width=70),
        },
    )


def _checkpoints(checkpoints: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> None:
    rows = [
        {
            "step": checkpoint["step"],
            "written": wording.clock(checkpoint["created_at"], zone),
            "size": wording.size(checkpoint["bytes"]),
            "score": checkpoint["score"],
            "attempt": checkpoint["attempt"],
            "kept": "deleted"
            if checkpoint.get("deleted_at")
            else "superseded"
            if checkpoint.get("superseded_at")
            else "on disk",
        }
        for checkpoint in checkpoints
    ]
    config = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        height=min(35 * (len(rows) + 1) + 3, 250),
        column_config={
            "step": config.NumberColumn("Step", width=80),
            "written": config.TextColumn("Written", width=130),
            "size": config.TextColumn("Size", width=90),
            "score": config.NumberColumn("Score", width=90, format="%.4f", help="Value of checkpoint.keep_best there"),
            "attempt": config.NumberColumn("Attempt", width=80),
            "kept": config.TextColumn("State", width=90),
        },
    )
