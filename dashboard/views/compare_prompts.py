"""Two runs prompt by prompt: those of the training data that both have stored rollouts of."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from client import Asym
from dashboard import live, pairs
from dashboard.comparison import Run
from dashboard.live import Feed
from dashboard.table_height import height

MOST = 2000


def show(api: Asym, runs: Sequence[Run]) -> None:
    by_label = {run.label: run for run in runs}
    if len(by_label) < 2:
        st.info("Choose two runs to compare them prompt by prompt.")
        return
    names = list(by_label)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = by_label[st.selectbox("From", names, key="from", bind="query-params", width=320)]
        others = [name for name in names if name != first.label]
        second = by_label[st.selectbox("To", others, key="to", bind="query-params", width=320)]
        last = max(first.step, second.step, 1)
        begin = st.number_input("Steps from", 1, None, 1, key="since", bind="query-params", width=150)
        end = st.number_input("to", 1, None, last, key="until", bind="query-params", width=150)
    if first.spec["data"]["train"] != second.spec["data"]["train"]:
        st.info("These runs were trained on different data sets: their rows are other prompts.")
        return
    with live.api_trouble():
        feed = Feed(api)
        asked = {"from_step": int(begin), "to_step": int(end), "limit": MOST}
        found = feed.get(
            f"compare/prompts/{first.id}/{second.id}/{begin}-{end}",
            lambda api: api.common_prompts([first.id, second.id], **asked),
        )
        feed.tell()
        paired = pairs.paired(found["prompts"])
        if not paired:
            st.info(
                "No prompt of these steps has stored rollouts of both runs. Runs with the same seed and data meet the "
                "same prompts at the same steps; diagnostics.rollout_groups says how many groups of a step are stored."
            )
            return
        _mean(paired, first, second, more=found["has_more"])
        _table(paired)


def _mean(paired: Sequence[pairs.Pair], first: Run, second: Run, *, more: bool) -> None:
    found = pairs.difference(paired)
    left, middle, right = st.columns([1.4, 1, 1])
    left.metric("Mean difference, to less from", f"{100 * found.mean:+.1f} points", help=pairs.METHOD)
    middle.metric("95 % interval", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}")
    right.metric("Prompts: better / worse / the same", _counts(found))
    st.text(f"from: {first.label}   to: {second.label}")
    st.caption(
        f"{found.prompts} prompts of the training data of which both have stored rollouts in these steps; of each the "
        f"share that was correct, every prompt counted once. {pairs.METHOD}."
        + (f" The first {MOST} by row are looked at; there are more." if more else "")
    )


def _counts(found: pairs.Difference) -> str:
    return f"{found.better} / {found.worse} / {found.prompts - found.better - found.worse}"


def _table(paired: Sequence[pairs.Pair]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "row": pair.row,
            "prompt": pair.prompt.replace("\n", " ⏎ "),
            "first": pair.first,
            "second": pair.second,
            "difference": 100 * pair.difference,
            "samples": f"{pair.samples[0]} / {pair.samples[1]}",
        }
        for pair in paired
    ]
    config = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        height=height(len(rows), 700),
        key="compare-prompts",
        column_config={
            "row": config.NumberColumn("Data row", width=80),
            "prompt": config.TextColumn("Prompt", width=560),
            "first": config.ProgressColumn("From: correct", min_value=0, max_value=1, format="percent", width=140),
            "second": config.ProgressColumn("To: correct", min_value=0, max_value=1, format="percent", width=140),
            "difference": config.NumberColumn("Points", format="%+.1f", width=90, help="To less from"),
            "samples": config.TextColumn("Rollouts", width=90, help="From / to"),
        },
    )
