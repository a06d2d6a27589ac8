"""The head of a run's page: what it is called, where it stands, why it stopped, and what one can do with it.

Names, tags, notes and what processes printed are strangers' text: it goes through `st.text` and `st.code`, or through
`wording.inert` where Markdown is read.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import streamlit as st

from client import Asym, AsymError
from dashboard import live, wording
from dashboard.live import Feed

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
ICONS = {
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
MOST_TAGS = 32
NOTES_SHOWN = 600
"""Characters of the notes on the page; all of them are where they are edited."""

OpenRun = Callable[[str], NoReturn]


def title(
    api: Asym,
    job: Mapping[str, Any],
    open_run: OpenRun,
    compare_with: Callable[[str], None],
    clone: Callable[[str], None],
) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.header(wording.inert(job["name"]), anchor=False, width="content")
        with st.container(horizontal=True, width="content"):
            for action in actions(job["status"]):
                if st.button(action.capitalize(), key=f"do-{action}", icon=ICONS[action]):
                    _confirm(api, job["id"], job["name"], action, open_run)
            if st.button("Clone", icon=":material/content_copy:"):
                clone(job["id"])
            if st.button("Compare", icon=":material/stacked_line_chart:"):
                compare_with(job["id"])
            if st.button("Edit", icon=":material/edit:", help="Name, tags and notes"):
                with live.api_trouble():
                    st.session_state["run-editing"] = api.job_to_edit(job["id"])
                    _edit(api, job["id"])


def actions(status: str) -> list[str]:
    if status in ("queued", "running"):
        return ["pause", "cancel"]
    if status in ("pausing", "paused"):
        return ["resume", "cancel"]
    return ["retry"] if status in ("failed", "cancelled") else []


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


@st.dialog("Name, tags and notes", width="medium")
def _edit(api: Asym, job_id: str) -> None:
    """Saves what was changed here unless somebody else changed it meanwhile: then theirs is shown first."""
    seen, tag = st.session_state["run-editing"]
    name = st.text_input("Name", seen["name"], max_chars=200, key=f"edit-name-{job_id}")
    tags = st.multiselect(
        "Tags",
        list(seen["tags"]),
        default=list(seen["tags"]),
        accept_new_options=True,
        max_selections=MOST_TAGS,
        key=f"edit-tags-{job_id}",
        placeholder="Type one and press Enter",
    )
    notes = st.text_area("Notes", seen["notes"], max_chars=10_000, height=180, key=f"edit-notes-{job_id}")
    st.caption("The spec stays as it was submitted. Searches find a run by the words of its name and notes.")
    if st.button("Save", type="primary", key="save-edit"):
        if not name.strip():
            st.warning("A run has a name.")
            return
        try:
            api.edit_job(job_id, name=name.strip(), tags=[str(each) for each in tags], notes=notes, if_match=tag)
        except AsymError as error:
            if error.status != 412:
                st.error(wording.inert(str(error)))
                return
            st.session_state["run-editing"] = theirs, _ = api.job_to_edit(job_id)
            st.warning("Somebody has edited this run meanwhile. Theirs is below; saving again replaces it with yours.")
            st.code("\n".join([theirs["name"], ", ".join(theirs["tags"]), theirs["notes"]]), language=None)
        else:
            del st.session_state["run-editing"]
            st.rerun()


def state(api: Asym, job_id: str, shown: str) -> None:
    """The lines under the name. Part of the page that repeats itself while the run may change."""
    with live.api_trouble():
        feed = Feed(api)
        job = feed.get(f"job/{job_id}", lambda api: api.job(job_id))
        if job["status"] != shown:
            st.rerun()  # the buttons, and how often to look, depend on the status
        color, icon = BADGES[job["status"]]
        now = datetime.now(UTC)
        feed.tell()
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(job["status"], color=color, icon=icon)
            st.text(wording.progress_line(job, now), width="content")
        progress = job["progress"]
        if job["status"] in wording.ACTIVE | {"paused"} and progress["steps"]:
            st.progress(min(1.0, progress["step"] / progress["steps"]))
        _origin(job, now)
        if job["preflight"]:
            st.caption(f"Before step 1: {wording.inert(job['preflight']['summary'])}")
        if job["failure"]:
            _failure(job["failure"])
        if job["pause_reason"]:
            st.warning(
                f"paused by the platform: {wording.inert(job['pause_reason']['message'])}", icon=":material/pause:"
            )


def _origin(job: Mapping[str, Any], now: datetime) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(" · ".join(wording.inert(part) for part in wording.origin(job, now)), width="content")
        for tag in job["tags"]:
            st.badge(wording.inert_badge(tag), color="gray", icon=":material/sell:")
        st.caption(f"`{job['id']}`", width="content")
    notes = job["notes"].strip()
    if notes:
        st.text(notes if len(notes) <= NOTES_SHOWN else f"{notes[:NOTES_SHOWN]} …")


def _failure(failure: Mapping[str, Any]) -> None:
    whose = "in the run itself: retrying gives the same" if failure["kind"] == "user" else "in the infrastructure"
    st.error(f"**{wording.inert(failure['code'])}**, {whose}", icon=":material/error:")
    st.code("\n".join([failure["message"], *failure.get("evidence", [])]), language=None, wrap_lines=True)
