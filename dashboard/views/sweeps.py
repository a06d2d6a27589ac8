"""Sweeps: which there are, and one of them as a whole: which combination is best, how far it is, what it has used.

sweep=sweep_…: the one that is shown.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import streamlit as st

from client import Asym
from client.results import Sweep
from dashboard import chart, live, sweep_table, table_keys, wording
from dashboard.live import Feed
from dashboard.table_height import height
from dashboard.views.run_header import BADGES, ICONS
from dashboard.views.runs import STATUS_COLORS, STATUSES

SHOWN = 200
"""The newest."""
CONSEQUENCES = {
    "pause": "Every run that waits or goes on is held after the step in hand. The sweep can be resumed.",
    "resume": "Every run that is held, failed or was cancelled goes on from its last checkpoint. "
    "What the median rule has ended stays ended.",
    "cancel": "Every run that has not ended stops after the step in hand.",
}

OpenRun = Callable[[str], NoReturn]


def show(api: Asym, open_run: OpenRun, compare_with: Callable[[str], None]) -> None:
    sweep_id = st.query_params.get("sweep", "")
    with live.api_trouble():
        if sweep_id:
            _one(api, sweep_id, open_run, compare_with)
        else:
            _all(api)


# ---- all ----


def _all(api: Asym) -> None:
    st.title("Sweeps")
    busy = bool(st.session_state.setdefault("sweeps-busy", True))
    st.fragment(run_every=live.TICK if busy else live.IDLE)(_list)(api)


def _list(api: Asym) -> None:
    with live.api_trouble():
        feed = Feed(api)
        found = feed.get("sweeps", lambda api: list(api.sweeps(limit=SHOWN)))
        feed.tell()
        busy = any(sweep_table.active(each) for each in found)
        if busy != st.session_state["sweeps-busy"]:
            st.session_state["sweeps-busy"] = busy
            st.rerun()  # with another interval
        if not found:
            _none_yet()
            return
        config = st.column_config
        st.dataframe(
            sweep_table.listed(found, datetime.now(UTC)),
            hide_index=True,
            key="sweeps-table",
            column_config={
                "open": config.ButtonColumn("Sweep", type="tertiary", key="sweeps-open", width=260, alignment="left"),
                "progress": config.ProgressColumn("Ended", min_value=0, max_value=100, format="%d %%", width=120),
                "jobs": config.NumberColumn("Runs", width=60),
                "standing": config.TextColumn("Of them", width=300),
                "ended": config.TextColumn("Ended because", width=240),
                "created": config.TextColumn("Created", width=110),
            },
        )
        if len(found) == SHOWN:
            st.caption(f"The newest {SHOWN}.")
        pressed = table_keys.pressed("sweeps-keys")
        if label := (st.session_state.get("sweeps-open") or {}).get("label") or pressed:
            # By the label that was read and clicked: its row may hold another sweep by now.
            chosen = next((each["id"] for each in found if sweep_table.label(each) == label), None)
            if chosen:
                st.query_params["sweep"] = chosen
                st.rerun()


def _none_yet() -> None:
    st.info(
        "No sweep yet: many runs of one plan, made, steered and looked at together. Submit one and it appears here.",
        icon=":material/grid_on:",
    )
    st.code(
        "asym sweeps submit examples/sweeps/betas.yaml     # beta_pos x beta_neg, three seeds each", language="bash"
    )


# ---- one ----


def _one(api: Asym, sweep_id: str, open_run: OpenRun, compare_with: Callable[[str], None]) -> None:
    feed = Feed(api)
    found = feed.get(f"sweep/{sweep_id}", lambda api: api.sweep(sweep_id))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.header(wording.inert(found["name"]), anchor=False, width="content")
        with st.container(horizontal=True, width="content"):
            for action in sweep_table.actions(found):
                if st.button(action.capitalize(), key=f"sweep-{action}", icon=ICONS[action]):
                    _confirm(api, found, action)
            ids = [each["job_id"] for each in found["jobs"] if each["job_id"]]
            if ids and st.button(f"Compare all {len(ids)}", icon=":material/stacked_line_chart:"):
                compare_with(",".join(ids))
            if st.button("All sweeps", icon=":material/arrow_back:"):
                del st.query_params["sweep"]
                st.rerun()
    every = live.TICK if sweep_table.active(found) else live.IDLE if "paused" in found["statuses"] else None
    st.fragment(run_every=every)(_standing)(api, sweep_id, sweep_table.actions(found), open_run)


@st.dialog("Please confirm")
def _confirm(api: Asym, found: Sweep, action: str) -> None:
    st.write(f"**{action.capitalize()} all of {wording.inert(found['name'])}?**")
    st.code(found["id"], language=None)
    st.write(f"{', '.join(f'{count} {status}' for status, count in sweep_table.counts(found))}. {CONSEQUENCES[action]}")
    if st.button(f"{action.capitalize()} this sweep", type="primary", key=f"confirm-sweep-{action}"):
        with live.api_trouble():
            {"pause": api.pause_sweep, "resume": api.resume_sweep, "cancel": api.cancel_sweep}[action](found["id"])
            st.rerun()


def _standing(api: Asym, sweep_id: str, offered: list[str], open_run: OpenRun) -> None:
    """What repeats itself while any member may change."""
    with live.api_trouble():
        feed = Feed(api)
        found = feed.get(f"sweep/{sweep_id}", lambda api: api.sweep(sweep_id))
        if sweep_table.actions(found) != offered:
            st.rerun()  # the buttons, and how often to look, depend on it
        feed.tell()
        _progress(found)
        _combinations(found)
        drawn = sweep_table.heatmap(found)
        if drawn is not None:
            chart.grid(drawn, key=f"sweep-grid-{sweep_id}")
        _members(found, open_run)
        _ended_early(found)


def _progress(found: Sweep) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for status, count in sweep_table.counts(found):
            color, icon = BADGES[status]
            st.badge(f"{count} {status}", color=color, icon=icon)
        deleted = found["members"] - sum(found["statuses"].values())
        if deleted:
            st.caption(f"{deleted} deleted", width="content")
        st.caption(
            f"made {wording.ago(found['created_at'], datetime.now(UTC))} · `{found['id']}` · "
            f"compared by the {'highest' if found['plan'].get('goal') == 'max' else 'lowest'} "
            f"{wording.inert(found['metric'])}",
            width="content",
        )
    if found["ended_because"]:
        st.warning(f"No more of it will run: {wording.inert(found['ended_because'])}", icon=":material/block:")
    done, used = st.columns(2, gap="medium")
    share = sweep_table.progress(found)
    done.progress(
        share, text=f"{100 * share:.0f} % of all steps, {sweep_table.ended(found)} of {found['members']} ended"
    )
    told, share_used = sweep_table.budget(found)
    if share_used is None:
        used.caption(told)
    else:
        used.progress(share_used, text=f"{told}, all runs together")


def _combinations(found: Sweep) -> None:
    st.subheader("Combinations, best first", anchor=False)
    if not any(each["measured"] for each in found["combinations"]):
        st.caption("None has measured the metric yet: this is the order of the plan.")
    config = st.column_config
    _, form = sweep_table.scale(found["metric"])
    spread = "Sample standard deviation over seeds"
    st.dataframe(
        sweep_table.combinations(found),
        hide_index=True,
        key="sweep-combinations",
        placeholder=wording.NOTHING,
        column_config={
            "place": config.NumberColumn("", width=40),
            "best": config.NumberColumn("Best, mean", format=form, help="Mean over seeds of each run's best value"),
            "best_spread": config.NumberColumn("± s.d.", format=form, help=spread),
            "last": config.NumberColumn("Last, mean", format=form, help="Mean over seeds of each run's newest value"),
            "last_spread": config.NumberColumn("± s.d.", format=form, help=spread),
            "measured": config.TextColumn("Measured", help="How many runs have a value"),
        },
    )


def _members(found: Sweep, open_run: OpenRun) -> None:
    st.subheader("Runs", anchor=False)
    config = st.column_config
    _, form = sweep_table.scale(found["metric"])
    columns: dict[str, Any] = {
        "open": config.ButtonColumn("Run", type="tertiary", key="sweep-open-run", width=260, alignment="left"),
        "status": config.MultiselectColumn("Status", options=STATUSES, color=STATUS_COLORS, width=92),
        "seed": config.NumberColumn("Seed", format="%d", width=60),
        "progress": config.ProgressColumn("Progress", min_value=0, max_value=100, format="%d %%", width=100),
        "best": config.NumberColumn("Best", format=form, width=80),
        "best_step": config.NumberColumn("at step", width=70),
        "last": config.NumberColumn("Last", format=form, width=80),
    }
    st.dataframe(
        sweep_table.members(found),
        hide_index=True,
        height=height(len(found["jobs"]), 600),
        key="sweep-members",
        placeholder=wording.NOTHING,
        column_config=columns,
    )
    pressed = table_keys.pressed("sweep-members-keys")
    if label := (st.session_state.get("sweep-open-run") or {}).get("label") or pressed:
        chosen = next((each["job_id"] for each in found["jobs"] if sweep_table.member_label(each) == label), None)
        if chosen:
            open_run(chosen)


def _ended_early(found: Sweep) -> None:
    rows = sweep_table.ended_early(found)
    if not rows:
        return
    st.subheader("Ended early by the median rule", anchor=False)
    config = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        key="sweep-stopped",
        column_config={"run": config.TextColumn("Run", width=260), "why": config.TextColumn("Why", width=800)},
    )
