"""Which runs are compared: found by words or tags, kept in the address with the styles of those whose own was taken.

jobs=job_a,job_b~3
"""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from client import Asym, AsymError
from client.results import ComparedRun
from dashboard import colors, comparison, live, wording
from dashboard.comparison import Run
from dashboard.kept_curves import JOBS_AT_ONCE
from dashboard.live import Feed

FOUND = 100
"""Runs on offer at a time; a search finds the others."""
MOST_ADDED = 500


def choose(feed: Feed) -> tuple[list[Run], dict[str, colors.Style]]:
    """The runs that the address names, and how each is drawn."""
    given = chosen(st.query_params.get("jobs", ""))
    known, gone = _compared(feed, list(given))
    if gone:
        told = wording.inert(", ".join(gone))
        st.warning(f"Deleted, or of another team: {told}. The others are shown.", icon=":material/search_off:")
    box = st.expander(
        _counted(len(given)), expanded=not given, icon=":material/checklist:", key="compare-choice", on_change="rerun"
    )
    if box.open:  # the list of runs is not asked for by those who came by a link
        with box:
            _offer(feed, given, {job_id: run["name"] for job_id, run in known.items()})
    labels = comparison.labels({job_id: run["name"] for job_id, run in known.items()})
    runs = [
        Run(
            job_id, labels[job_id], run["status"], run["progress"]["step"], run["spec"], run["gpus"], tuple(run["keys"])
        )
        for job_id, run in known.items()
    ]
    return runs, colors.of_runs(given, {job_id: place for job_id, place in given.items() if place is not None})


def chosen(parameter: str) -> dict[str, int | None]:
    """Of `job_a,job_b~3`: job id -> the style that the address gives it, None for its own."""
    found: dict[str, int | None] = {}
    for part in parameter.split(","):
        job_id, _, place = part.strip().partition("~")
        if job_id:
            found.setdefault(job_id, int(place) if place.isascii() and place.isdigit() else None)
    return found


def as_parameter(job_ids: Sequence[str], before: Mapping[str, int | None]) -> str:
    """The runs for the address. Those that were there before keep the style they had."""
    placed = colors.places(before, {job_id: place for job_id, place in before.items() if place is not None})
    kept = {job_id: place for job_id, place in placed.items() if job_id in job_ids}
    places = colors.places(job_ids, kept)
    return ",".join(
        job_id if place == colors.own_place(job_id) else f"{job_id}~{place}" for job_id, place in places.items()
    )


def _counted(count: int) -> str:
    return "Choose runs" if not count else "1 run" if count == 1 else f"{count} runs"


def _compared(feed: Feed, job_ids: Sequence[str]) -> tuple[dict[str, ComparedRun], list[str]]:
    """The runs, and the ids of those that are not there: an old link still shows the others."""
    found: dict[str, ComparedRun] = {}
    gone = []
    for start in range(0, len(job_ids), JOBS_AT_ONCE):
        part = job_ids[start : start + JOBS_AT_ONCE]
        try:
            found |= _page(feed, part)
        except AsymError as error:
            if error.status != 404:
                raise
            for job_id in part:
                try:
                    found |= _page(feed, [job_id])
                except AsymError as error:
                    if error.status != 404:
                        raise
                    gone.append(job_id)
    return found, gone


def _page(feed: Feed, job_ids: Sequence[str]) -> dict[str, ComparedRun]:
    return feed.get(f"compare/runs/{','.join(job_ids)}", lambda api: api.compared_runs(job_ids))


def _offer(feed: Feed, given: Mapping[str, int | None], names: dict[str, str]) -> None:
    text, tags, place = _search()
    found = feed.get(
        f"compare/found/{text}/{tags}", lambda api: list(api.jobs(text=text or None, tags=tags, limit=FOUND))
    )
    names |= {job["id"]: job["name"] for job in found}
    told = comparison.labels(names)
    if text or tags:
        with place:
            st.button(
                f"Add all {len(found)}" + (" or more" if len(found) == FOUND else ""),
                on_click=_add_all,
                args=(feed.api, text, tags),
                disabled=not found,
            )
    st.session_state["compare-jobs"] = list(given)
    st.multiselect(
        "Runs",
        list(dict.fromkeys([*given, *names])),
        key="compare-jobs",
        format_func=lambda job_id: told.get(job_id, job_id),
        on_change=_remember,
        placeholder="Choose two or more runs",
    )


def _search() -> tuple[str, list[str], Any]:
    left, middle, right = st.columns([3, 3, 1.2], vertical_alignment="bottom")
    text = left.text_input(
        "Find runs", key="compare-find", placeholder="Words of the name or the notes", icon=":material/search:"
    )
    tags = middle.multiselect(
        "With all of these tags",
        list(st.session_state.get("compare-tags", [])),
        key="compare-tags",
        accept_new_options=True,
        placeholder="Type a tag",
    )
    return (text or "").strip(), [str(tag) for tag in tags], right


def _remember() -> None:
    _keep(st.session_state["compare-jobs"])


def _keep(job_ids: Sequence[str]) -> None:
    before = chosen(st.query_params.get("jobs", ""))
    if job_ids:
        st.query_params["jobs"] = as_parameter(job_ids, before)
    else:
        st.query_params.pop("jobs", None)


def _add_all(api: Asym, text: str, tags: Sequence[str]) -> None:
    with live.api_trouble():
        found = [job["id"] for job in api.jobs(text=text or None, tags=tags, limit=MOST_ADDED)]
        _keep(list(dict.fromkeys([*chosen(st.query_params.get("jobs", "")), *found])))
