"""The runs of the team, newest first: how far each is, how it does, and both entropies at a glance."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import streamlit as st

from client import Asym
from dashboard import curves, live, wording
from dashboard.live import Feed

STATUSES = ("queued", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed")
STATUS_COLORS = ("gray", "blue", "blue", "orange", "orange", "gray", "green", "red")
ROWS = 50
LABEL = 8
"""Characters of an id's random end that stand for it on its button."""
COMPARABLE = 50
"""How many runs one GET /compare may name."""
SPARK_POINTS = 40
ACCURACY, INFORMATIVE, SPURIOUS = KEYS = ("group/accuracy", "entropy/informative", "entropy/spurious")

OpenRun = Callable[[str], NoReturn]


def show(api: Asym, open_run: OpenRun) -> None:
    st.title("Runs")
    left, right, _ = st.columns([2, 3, 4])
    status = left.selectbox(
        "Status", ["any status", *STATUSES], key="status", bind="query-params", label_visibility="collapsed"
    )
    search = right.text_input(
        "Search",
        key="q",
        bind="query-params",
        placeholder="Search name, model or id",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    rows = int(st.session_state.setdefault("runs-shown", ROWS))
    busy = bool(st.session_state.setdefault("runs-busy", True))
    every = live.TICK if busy else live.IDLE
    st.fragment(run_every=every)(_table)(api, None if status == "any status" else status, search or "", rows, open_run)


def _table(api: Asym, status: str | None, search: str, rows: int, open_run: OpenRun) -> None:
    with live.api_trouble():
        feed = Feed(api)
        # One more than is shown tells whether there are more.
        found = feed.get(f"runs/{status}/{rows}", lambda api: list(api.jobs(limit=rows + 1, status=status)))  # type: ignore[arg-type]
        busy = any(job["status"] in wording.ACTIVE for job in found)
        if busy != st.session_state["runs-busy"]:
            st.session_state["runs-busy"] = busy
            st.rerun()  # with another interval
        jobs = [{**job, **described(feed, job)} for job in found[:rows]]
        jobs = _with_queue(feed, [job for job in jobs if matches(job, search)])
        feed.tell()
        if not jobs:
            _nothing_here(api, filtered=bool(status or search))
            return
        _draw(jobs, _curves(feed, [str(job["id"]) for job in jobs]), open_run)
        if len(found) > rows:
            st.button(f"Show {ROWS} more", on_click=_show_more)


def _with_queue(feed: Feed, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A list of jobs leaves out where the queued ones stand."""
    if not any(job["status"] == "queued" for job in jobs):
        return jobs
    standing = {entry["id"]: entry["queue"] for entry in feed.get("queue", lambda api: api.queue())}
    return [{**job, "queue": standing.get(job["id"], job["queue"])} for job in jobs]


def _curves(feed: Feed, ids: Sequence[str]) -> dict[str, curves.Columns]:
    """The sparklines of all rows, in as few requests as the API allows."""
    found: dict[str, curves.Columns] = {}
    for start in range(0, len(ids), COMPARABLE):
        part = ids[start : start + COMPARABLE]
        answer = feed.get(
            f"runs/curves/{','.join(part)}",
            lambda api, part=part: api.compare(part, KEYS, max_points=SPARK_POINTS),  # type: ignore[misc]
        )
        found.update(curves.by_run(answer))
    return found


def _show_more() -> None:
    st.session_state["runs-shown"] += ROWS


def described(feed: Feed, job: Mapping[str, Any]) -> dict[str, str]:
    """Model and preset of a job. A list may leave the spec out; a job's spec never changes, so it is asked for once."""
    kept: dict[str, dict[str, str]] = st.session_state.setdefault("asym_described", {})
    if job["id"] not in kept:
        spec = job.get("spec") or feed.get(f"spec/{job['id']}", lambda api: api.job(job["id"]))["spec"]
        kept[job["id"]] = {"model": spec["model"]["id"], "preset": spec["algorithm"]["preset"]}
    return kept[job["id"]]


def matches(job: Mapping[str, Any], search: str) -> bool:
    """Whether every word of the search occurs in the job's name, model, preset or id."""
    text = " ".join((job["name"], job["model"], job["preset"], job["id"])).lower()
    return all(word in text for word in search.lower().split())


def table(
    jobs: Sequence[Mapping[str, Any]], columns: Mapping[str, curves.Columns], now: datetime
) -> list[dict[str, Any]]:
    """One row per job, ready for display."""
    rows = []
    for job in jobs:
        own = columns.get(job["id"], {})
        progress = job["progress"]
        left = wording.remaining(job)
        rows.append(
            {
                "open": job["id"][-LABEL:],
                "name": job["name"],
                "status": [job["status"]],
                "progress": progress["step"] / progress["steps"] if progress["steps"] else 0.0,
                "step": f"{progress['step']}/{progress['steps']}",
                "left": _place(job) or wording.duration(left),
                "model": job["model"].removeprefix("builtin/"),
                "preset": job["preset"],
                "accuracy": curves.last(own, ACCURACY),
                "informative": _spark(own, INFORMATIVE),
                "spurious": _spark(own, SPURIOUS),
                "created": wording.ago(job["created_at"], now),
            }
        )
    return rows


def _place(job: Mapping[str, Any]) -> str:
    position = (job["queue"] or {}).get("position")
    return f"no. {position} in line" if position else ""


def _spark(columns: curves.Columns, key: str) -> list[float]:
    """A sparkline has no place for a gap: undefined steps are left out, and the run page shows them."""
    return [float(value) for value in curves.values(columns, key)[1] if value is not None]


def _draw(jobs: Sequence[Mapping[str, Any]], columns: Mapping[str, curves.Columns], open_run: OpenRun) -> None:
    rows = table(jobs, columns, datetime.now(UTC))
    config = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        height=min(36 * (len(rows) + 1) + 3, 900),
        row_height=36,
        key="runs-table",
        placeholder=wording.NOTHING,
        column_config={
            "open": config.ButtonColumn("Run", type="tertiary", key="runs-open", width=92, alignment="left"),
            "name": config.TextColumn("Name", width=165),
            "status": config.MultiselectColumn("Status", options=STATUSES, color=STATUS_COLORS, width=92),
            "progress": config.ProgressColumn("Progress", min_value=0.0, max_value=1.0, format="percent", width=105),
            "step": config.TextColumn("Step", width=72, alignment="right"),
            "left": config.TextColumn("Time left", width=104),
            "model": config.TextColumn("Model", width=94),
            "preset": config.TextColumn("Preset", width=90),
            "accuracy": config.NumberColumn(
                "Accuracy", format="percent", width=80, help="Share of correct rollouts in the newest step"
            ),
            "informative": config.LineChartColumn(
                "Informative H", width=100, color="blue", help="Entropy of correct rollouts, nats per token"
            ),
            "spurious": config.LineChartColumn(
                "Spurious H", width=100, color="orange", help="Entropy of incorrect rollouts, nats per token"
            ),
            "created": config.TextColumn("Created", width=100),
        },
    )
    click = st.session_state.get("runs-open")
    if click:
        # By the label that was read and clicked: its row may hold another run by now.
        open_run(next(job["id"] for job in jobs if job["id"].endswith(click["label"])))


def _nothing_here(api: Asym, *, filtered: bool) -> None:
    if filtered:
        st.info("No run matches this filter.", icon=":material/filter_alt_off:")
        return
    st.info("No runs yet. Submit one and it appears here by itself.", icon=":material/rocket_launch:")
    st.write("**See it work first:** a data set, a small model and a run that learns in about two minutes.")
    st.code("./dev demo", language="bash")
    st.write("**Your own data:** one JSON object a line with a prompt and an answer.")
    st.code(
        "asym datasets upload train.jsonl          # prints the data set's id, ds_…\n"
        "asym submit spec.yaml --watch             # data: {train: ds_…} in the spec",
        language="bash",
    )
    st.write("**Over HTTP:** the same two steps from any program.")
    st.code(
        f'curl -H "Authorization: Bearer $ASYM_API_KEY" -F file=@train.jsonl {api.api_url}/datasets\n'
        f'curl -H "Authorization: Bearer $ASYM_API_KEY" -H "Content-Type: application/json" '
        f"-d @spec.json {api.api_url}/jobs",
        language="bash",
    )
