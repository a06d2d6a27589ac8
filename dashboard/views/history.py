"""What happened to a run: its events, checkpoints and log lines. Fetched as they come, never twice.

The journal's entries of steps are left out: what they say is in the metrics. Of the log the newest lines are fetched
first and then what comes; it is shown in blocks, of which only the last one changes, so that a refresh sends the
browser few lines that it has.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from client import Asym
from dashboard import live, wording
from dashboard.live import Feed
from dashboard.table_height import height

KEPT = 5000
"""Newest entries held per run; older ones are with the API."""
COURSE = ("message", "state")
"""Types of events that tell what befell a run: few, however long it is."""
TOLD = (*COURSE, "preflight", "eval", "checkpoint")
"""Types of events that are shown."""
LOG_LINES = 1000
"""Newest lines on the page, about; `asym logs` has them all."""
BLOCK = 200
"""Lines of a block. Blocks begin at the same lines at every refresh."""
FITTING = 20
"""So many lines need no scrolling."""
LEVELS = ("info", "warning", "error")
LEVEL_COLORS = ("gray", "orange", "red")


def show(api: Asym, job_id: str) -> None:
    with live.api_trouble():
        feed = Feed(api)
        found = events(feed, job_id, TOLD)
        blocks = log_blocks(_log(feed, job_id))
        checkpoints = feed.get(f"checkpoints/{job_id}", lambda api: api.checkpoints(job_id))
        feed.tell()
        zone = ZoneInfo(st.context.timezone or "UTC")
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.subheader("Events", anchor=False)
            _events(found, zone)
        with right:
            st.subheader("Checkpoints", anchor=False)
            if checkpoints:
                _checkpoints(checkpoints, zone)
            else:
                st.text("None yet.")
        st.subheader("Log", anchor=False)
        if not blocks:
            st.text("No line yet.")
            return
        long = sum(map(len, blocks)) > FITTING
        with st.container(height=520 if long else "content", border=long, autoscroll=long, gap=None):
            for block in blocks:
                st.code("\n".join(block), language=None, wrap_lines=True)


def events(feed: Feed, job_id: str, types: Sequence[str] = COURSE) -> list[Mapping[str, Any]]:
    """The run's journal, its entries of these types, oldest first."""

    def fetch(api: Asym, after: int) -> Mapping[str, Any]:
        return api.events(job_id, after=after, limit=1000, types=types)

    return _newer(feed, f"events/{len(types)}", job_id, fetch)


def _log(feed: Feed, job_id: str) -> list[Mapping[str, Any]]:
    """The newest lines when they are first looked at, and whatever has come since."""

    def fetch(api: Asym, after: int) -> Mapping[str, Any]:
        return api.logs(job_id, after=after, limit=1000) if after else api.logs(job_id, tail=LOG_LINES)

    return _newer(feed, "logs", job_id, fetch)


def log_blocks(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The lines in blocks of `BLOCK`, counted from the first that is held, the oldest blocks left out.

    A change of attempt is told between its lines.
    """
    shown: list[str] = []
    attempt = None
    for line in lines:
        if attempt is not None and line["attempt"] != attempt:
            shown.append(f"──────── attempt {line['attempt']} ────────")
        attempt = line["attempt"]
        shown.append(line["line"])
    blocks = [shown[start : start + BLOCK] for start in range(0, len(shown), BLOCK)]
    return blocks[-(LOG_LINES // BLOCK + 1) :]


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
    if len(kept) > KEPT:
        # By whole blocks, so that those that stay begin where they did.
        del kept[: (len(kept) - KEPT + BLOCK - 1) // BLOCK * BLOCK]
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
        height=height(len(rows), 360),
        key="events-table",
        column_config={
            "at": config.TextColumn("Time", width=76),
            "level": config.MultiselectColumn("Level", options=LEVELS, color=LEVEL_COLORS, width=76),
            "type": config.TextColumn("Type", width=84),
            "message": config.TextColumn("Message", width=410),
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
        height=height(len(rows), 250),
        column_config={
            "step": config.NumberColumn("Step", width=56),
            "written": config.TextColumn("Written", width=84),
            "size": config.TextColumn("Size", width=78),
            "score": config.NumberColumn("Score", width=72, format="%.4f", help="Value of checkpoint.keep_best there"),
            "attempt": config.NumberColumn("Attempt", width=66),
            "kept": config.TextColumn("State", width=92),
        },
    )
