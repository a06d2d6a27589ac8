"""What runs and what waits, for what and for how long."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import streamlit as st

from client import Asym
from dashboard import live, table_keys, wording
from dashboard.live import Feed

SHOWN = 200
"""Jobs of each table, at most."""
LABEL = 8
"""Characters of an id's random end that stand for it on its button."""

OpenRun = Callable[[str], NoReturn]


def show(api: Asym, open_run: OpenRun) -> None:
    st.title("Queue")
    st.fragment(run_every=live.TICK)(_queue)(api, open_run)


def _queue(api: Asym, open_run: OpenRun) -> None:
    with live.api_trouble():
        feed = Feed(api)
        waiting = feed.get("queue", lambda api: api.queue(limit=SHOWN))
        running = feed.get("queue/running", lambda api: list(api.jobs(status="running", limit=SHOWN)))
        feed.tell()
        now = datetime.now(UTC)
        st.subheader(f"Running: {_count(len(running))}", anchor=False)
        ids = [job["id"] for job in (*running, *waiting)]
        pressed = {}
        if running:
            st.dataframe(
                [
                    {"open": job["id"][-LABEL:], "name": job["name"], "state": wording.progress_line(job, now)}
                    for job in running
                ],
                hide_index=True,
                key="queue-running",
                column_config={
                    "open": _button("queue-open-running"),
                    "name": "Name",
                    "state": st.column_config.TextColumn("State", width=600),
                },
            )
            pressed["running"] = table_keys.pressed("queue-running-keys")
        st.subheader(f"Waiting: {_count(len(waiting))}", anchor=False)
        if waiting:
            st.dataframe(
                [
                    {
                        "open": job["id"][-LABEL:],
                        "position": job["queue"]["position"],
                        "name": job["name"],
                        "reason": job["queue"]["wait_reason"],
                        "eta": wording.duration(job["queue"]["eta_seconds"]),
                        "priority": job["priority"],
                        "queued": wording.ago(job["queued_at"], now),
                    }
                    for job in sorted(waiting, key=lambda job: job["queue"]["position"])
                ],
                hide_index=True,
                key="queue-waiting",
                column_config={
                    "open": _button("queue-open-waiting"),
                    "position": st.column_config.NumberColumn("Place", width=60, help="Among the jobs of all teams"),
                    "name": "Name",
                    "reason": st.column_config.TextColumn("Waits because", width=420),
                    "eta": "Starts in about",
                    "priority": "Priority",
                    "queued": "Queued",
                },
            )
            pressed["waiting"] = table_keys.pressed("queue-waiting-keys")
        elif not running:
            st.info("Nothing waits: a new run starts at once where a worker is free.", icon=":material/check:")
        for table in ("running", "waiting"):
            if label := (st.session_state.get(f"queue-open-{table}") or {}).get("label") or pressed.get(table):
                # By the label that was read and clicked: its row may hold another run by now.
                open_run(next(job_id for job_id in ids if job_id.endswith(label)))


def _button(key: str) -> Any:  # noqa: ANN401 (what st.dataframe takes; its type is not public)
    return st.column_config.ButtonColumn("Run", type="tertiary", key=key, width=92, alignment="left")


def _count(found: int) -> str:
    return f"the newest {found}" if found == SHOWN else str(found)
