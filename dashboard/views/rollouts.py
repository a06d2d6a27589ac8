"""What the model wrote: the rollouts of one step, as a table and in full.

Prompts and completions are strangers' text. They go through `st.dataframe` text columns and `st.code`, which show
characters; never through anything that reads HTML or Markdown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from client import Asym
from dashboard import live, wording
from dashboard.live import Feed

PAGE = 200
FILTERS = {"all": None, "correct": True, "incorrect": False}


def show(api: Asym, job: Mapping[str, Any]) -> None:
    st.fragment(_choose)(api, job["id"], job["progress"]["step"], job["spec"])


def _choose(api: Asym, job_id: str, known: int, spec: Mapping[str, Any]) -> None:
    with live.api_trouble():
        feed = Feed(api)
        newest = max(known, feed.get(f"job/{job_id}", lambda api: api.job(job_id))["progress"]["step"])
        if newest < 1:
            st.info("No step is done yet.")
            st.button("Look again", icon=":material/refresh:")
            return
        left, middle, right = st.columns([2, 3, 3], vertical_alignment="bottom")
        asked = st.query_params.get("step", "")
        step = left.number_input(
            f"Step, 1 to {newest}",
            min_value=1,
            max_value=newest,
            value=min(int(asked), newest) if asked.isdecimal() and int(asked) > 0 else newest,
            key=f"rollout-step-{job_id}",
            on_change=_remember,
            args=(f"rollout-step-{job_id}",),
        )
        outcome = middle.segmented_control(
            "Outcome", list(FILTERS), default="all", required=True, key="outcome", bind="query-params"
        )
        with right:
            st.button(
                "Newest step", icon=":material/last_page:", on_click=_newest, args=(f"rollout-step-{job_id}", newest)
            )
        page = feed.get(
            f"rollouts/{job_id}/{step}/{outcome}",
            lambda api: api.rollouts(job_id, step=int(step), correct=FILTERS[str(outcome)], limit=PAGE),
        )
        feed.tell()
        _table(page["data"], more=page["has_more"], stored=spec["diagnostics"]["rollout_groups"])


def _remember(key: str) -> None:
    st.query_params["step"] = str(st.session_state[key])


def _newest(key: str, newest: int) -> None:
    st.session_state[key] = newest
    st.query_params.pop("step", None)


def table(rollouts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per rollout. Line breaks become visible: a cell is one line high."""
    return [
        {
            "group": rollout["group"],
            "sample": rollout["sample"],
            "correct": "✓" if rollout["correct"] else "✗",
            "reward": rollout["reward"],
            "advantage": rollout["advantage"],
            "completion": one_line(rollout["completion"]) + (" ⋯ cut" if rollout["truncated"] else ""),
            "answer": one_line(rollout["answer"]),
            "prompt": one_line(rollout["prompt"]),
            "tokens": rollout["tokens"],
            "entropy": rollout["entropy"],
            "row": rollout["row"],
        }
        for rollout in rollouts
    ]


def one_line(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", " ⏎ ")


def _table(rollouts: Sequence[Mapping[str, Any]], *, more: bool, stored: int) -> None:
    if not rollouts:
        st.info(
            "No rollout of this step was stored with its text (diagnostics.rollout_groups is 0)."
            if stored == 0
            else "This step has no such rollouts."
        )
        return
    config = st.column_config
    event = st.dataframe(
        table(rollouts),
        hide_index=True,
        height=min(35 * (len(rollouts) + 1) + 3, 388),
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [0], "columns": [], "cells": []}},
        key="rollouts-table",
        placeholder=wording.NOTHING,
        column_config={
            "group": config.NumberColumn("Group", width=58, help="Which prompt of the step"),
            "sample": config.NumberColumn("Sample", width=64),
            "correct": config.TextColumn("OK", width=40),
            "reward": config.NumberColumn("Reward", width=66, format="%.3g"),
            "advantage": config.NumberColumn("Advantage", width=84, format="%+.3f"),
            "completion": config.TextColumn("Completion", width=280),
            "answer": config.TextColumn("Answer", width=120),
            "prompt": config.TextColumn("Prompt", width=220),
            "tokens": config.NumberColumn("Tokens", width=62),
            "entropy": config.NumberColumn("Entropy", width=70, format="%.3f", help="Mean over its tokens, nats"),
            "row": config.NumberColumn("Data row", width=74),
        },
    )
    st.caption(
        f"{len(rollouts)} rollouts, {stored} groups of each step are stored"
        + (f"; the first {PAGE} are shown." if more else ".")
    )
    chosen = event["selection"]["rows"] if event else []
    _in_full(rollouts[chosen[0] if chosen and chosen[0] < len(rollouts) else 0])


def _in_full(rollout: Mapping[str, Any]) -> None:
    verdict = "correct" if rollout["correct"] else "incorrect"
    facts = [
        f"group {rollout['group']}, sample {rollout['sample']}",
        verdict,
        f"reward {wording.number(rollout['reward'])}",
        f"advantage {wording.number(rollout['advantage'])}",
        f"{rollout['tokens']} tokens" + (", cut" if rollout["truncated"] else ""),
        f"entropy {wording.number(rollout['entropy'])}",
    ]
    st.text(" · ".join(facts))
    left, right = st.columns(2, gap="medium")
    with left:
        st.caption("Prompt")
        st.code(rollout["prompt"], language=None, wrap_lines=True)
        st.caption("Answer expected")
        st.code(rollout["answer"], language=None, wrap_lines=True)
    with right:
        st.caption("Completion")
        st.code(rollout["completion"] or " ", language=None, wrap_lines=True)
