"""The machines: what each has, what it runs, and when it was last heard of."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from client import Asym
from dashboard import live, wording
from dashboard.live import Feed

STATES = ("alive", "draining", "lost")
STATE_COLORS = ("green", "orange", "red")


def show(api: Asym) -> None:
    st.title("Workers")
    st.fragment(run_every=live.TICK)(_workers)(api)


def _workers(api: Asym) -> None:
    with live.api_trouble():
        feed = Feed(api)
        workers = feed.get("workers", lambda api: api.workers())
        feed.tell()
        if not workers:
            st.info("No worker is connected: jobs wait. `asym worker` starts one.", icon=":material/power_off:")
            return
        there = [worker for worker in workers if worker["state"] != "lost"]
        lost = [worker["name"] for worker in workers if worker["state"] == "lost"]
        if lost:
            st.warning(
                f"Not heard from: {wording.inert(', '.join(lost))}. Their jobs go on elsewhere from a checkpoint.",
                icon=":material/link_off:",
            )
        for column, (label, busy, all) in zip(st.columns(4), totals(there), strict=False):
            column.metric(label, f"{busy} of {all}" if busy is not None and all else all, border=True)
        now = datetime.now(UTC)
        config = st.column_config
        st.dataframe(
            [row(worker, now) for worker in workers],
            hide_index=True,
            key="workers",
            placeholder=wording.NOTHING,
            column_config={
                "state": config.MultiselectColumn("State", options=STATES, color=STATE_COLORS, width=90),
                "name": "Name",
                "host": "Host",
                "gpus": config.ProgressColumn("GPUs in use", format="percent", min_value=0.0, max_value=1.0),
                "devices": config.TextColumn("GPU", width=220),
                "cpu": "CPU slots in use",
                "labels": "Labels",
                "runs": config.TextColumn("Runs", width=240),
                "version": "Version",
                "up": "Up for",
                "heard": "Heard of",
            },
        )


def totals(workers: list[Any]) -> list[tuple[str, int | None, int]]:
    """(what, how many in use, how many there are) over the workers that are there."""

    def all_of(name: str) -> int:
        return sum(each[name] for each in workers)

    return [
        ("Workers", None, len(workers)),
        ("GPUs in use", all_of("busy_gpus"), all_of("gpus")),
        ("CPU slots in use", all_of("busy_cpu_slots"), all_of("cpu_slots")),
    ]


def row(worker: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """One row of the table. A worker without GPUs has no share of them in use."""
    return {
        "name": worker["name"],
        "state": [worker["state"]],
        "gpus": worker["busy_gpus"] / worker["gpus"] if worker["gpus"] else None,
        "devices": wording.gpus(worker["devices"]),
        "cpu": f"{worker['busy_cpu_slots']} of {worker['cpu_slots']}",
        "runs": wording.running_on(worker),
        "labels": ", ".join(worker["labels"]) or wording.NOTHING,
        "host": worker["host"],
        "version": worker["version"],
        "up": wording.duration((now - datetime.fromisoformat(worker["started_at"])).total_seconds()),
        "heard": wording.ago(worker["heartbeat_at"], now),
    }
