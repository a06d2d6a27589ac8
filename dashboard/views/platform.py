"""What the platform has and does: data sets, the queue, the workers."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from client import Asym
from dashboard import live, wording
from dashboard.live import Feed

SHOWN = 200
"""Queued jobs, at most."""


def show_datasets(api: Asym) -> None:
    st.title("Data sets")
    with live.api_trouble():
        feed = Feed(api)
        found = feed.get("datasets", lambda api: list(api.datasets(limit=200)))
        feed.tell()
        if not found:
            st.info("No data set yet. Upload JSONL, CSV or Parquet with a prompt and an answer in each row.")
            st.code("asym datasets upload train.jsonl", language="bash")
            return
        config = st.column_config
        now = datetime.now(UTC)
        rows = [
            {
                "name": dataset["name"],
                "version": dataset["version"],
                "id": dataset["id"],
                "rows": dataset["rows"],
                "format": dataset["format"],
                "size": wording.size(dataset["bytes"]),
                "prompts": _characters(dataset),
                "answers": _answers(dataset),
                "repeated": dataset["statistics"]["duplicate_prompts"] if dataset["statistics"] else None,
                "created": wording.ago(dataset["created_at"], now),
            }
            for dataset in found
        ]
        st.dataframe(
            rows,
            hide_index=True,
            column_config={
                "name": config.TextColumn("Name", width=260),
                "version": config.NumberColumn("Version", width=70),
                "id": config.TextColumn("Id", width=300),
                "rows": config.NumberColumn("Rows", format="localized", width=90),
                "format": config.TextColumn("Format", width=80),
                "size": config.TextColumn("Size", width=90),
                "prompts": config.TextColumn("Prompt characters", width=190),
                "answers": config.TextColumn("Answers look like", width=200),
                "repeated": config.NumberColumn("Repeated prompts", width=120),
                "created": config.TextColumn("Created", width=130),
            },
        )
        _preview(feed, {dataset["id"]: dataset["name"] for dataset in found})


def _characters(dataset: Mapping[str, Any]) -> str:
    found = dataset["statistics"]
    if found is None:
        return wording.NOTHING
    lengths = found["prompt_characters"]
    return f"{lengths['min']} to {lengths['max']}, median {lengths['median']}"


def _answers(dataset: Mapping[str, Any]) -> str:
    found = dataset["statistics"]
    return wording.NOTHING if found is None else ", ".join(f"{n} {kind}" for kind, n in found["answer_kinds"].items())


def _preview(feed: Feed, names: dict[str, str]) -> None:
    chosen = st.selectbox("First rows of", list(names), format_func=lambda key: names[key], width=420)
    rows = feed.get(f"rows/{chosen}", lambda api: api.dataset_rows(str(chosen), limit=20))["data"]
    # As JSON text: a column whose rows differ in type is no table.
    st.code("\n".join(_as_line(row) for row in rows), language="json", wrap_lines=True, height=300)


def _as_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def show_queue(api: Asym) -> None:
    st.title("Queue and workers")
    st.fragment(run_every=live.TICK)(_queue)(api)


def _queue(api: Asym) -> None:
    with live.api_trouble():
        feed = Feed(api)
        waiting = feed.get("queue", lambda api: api.queue(limit=SHOWN))
        running = feed.get("queue/running", lambda api: list(api.jobs(status="running", limit=100)))
        workers = feed.get("workers", lambda api: api.workers())
        feed.tell()
        now = datetime.now(UTC)
        st.subheader(f"Running: {len(running)}", anchor=False)
        if running:
            st.dataframe(
                [{"Run": job["name"], "Id": job["id"], "State": wording.progress_line(job, now)} for job in running],
                hide_index=True,
                key="queue-running",
            )
        more = "the newest " if len(waiting) == SHOWN else ""
        st.subheader(f"Waiting: {more}{len(waiting)}", anchor=False)
        if waiting:
            st.dataframe(
                [
                    {
                        "Run": job["name"],
                        "Id": job["id"],
                        "Position": job["queue"]["position"],
                        "Waits because": job["queue"]["wait_reason"],
                        "Starts in about": wording.duration(job["queue"]["eta_seconds"]),
                        "Priority": job["priority"],
                        "Queued": wording.ago(job["queued_at"], now),
                    }
                    for job in sorted(waiting, key=lambda job: job["queue"]["position"])
                ],
                hide_index=True,
                key="queue-waiting",
            )
        there = sum(worker["state"] == "alive" for worker in workers)
        lost = [worker["name"] for worker in workers if worker["state"] == "lost"]
        st.subheader(f"Workers: {there}", anchor=False)
        if lost:
            st.warning(f"Not heard from: {wording.inert(', '.join(lost))}", icon=":material/link_off:")
        if workers:
            st.dataframe([_worker(worker, now) for worker in workers], hide_index=True, key="workers")
        else:
            st.info("No worker is connected: jobs wait. `asym worker` starts one.", icon=":material/power_off:")


def _worker(worker: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "Name": worker["name"],
        "Host": worker["host"],
        "State": worker["state"],
        "GPUs in use": f"{worker['busy_gpus']} of {worker['gpus']}",
        "GPU": wording.gpus(worker["devices"]),
        "CPU slots in use": f"{worker['busy_cpu_slots']} of {worker['cpu_slots']}",
        "Labels": ", ".join(worker["labels"]) or wording.NOTHING,
        "Runs": wording.running_on(worker),
        "Version": worker["version"],
        "Up for": wording.duration((now - datetime.fromisoformat(worker["started_at"])).total_seconds()),
        "Heard of": wording.ago(worker["heartbeat_at"], now),
    }
