"""Several runs over each other: the same metrics on one axis, what their configurations differ in, who is best.

All that one chooses here is in the address: a copied link shows the same comparison in any browser.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from client import Asym
from dashboard import axes, colors, comparison, live, seeds, wording
from dashboard.comparison import Look, Run
from dashboard.differences import differing
from dashboard.live import Feed
from dashboard.views import compare_curves, compare_opening, compare_prompts, compare_runs, compare_sweep
from dashboard.views.compare_curves import CLIPPED, DEFAULT_KEYS, HEAVIEST, listed, zoom_of

CHARTS_AT_ONCE = 12
CURVES, SWEEP, PROMPTS = SECTIONS = ("Curves", "Sweep", "Prompts")


def show(api: Asym) -> None:
    st.title("Compare")
    with live.api_trouble():
        settings, charts = st.container(key=compare_opening.SETTINGS), st.container()
        if compare_opening.show(api, settings, charts):
            return
        with settings:
            feed = Feed(api)
            runs, styles = compare_runs.choose(feed)
            if not runs:
                feed.tell()
                st.info("Choose runs above to lay their curves over each other.", icon=":material/stacked_line_chart:")
                return
            section = st.segmented_control(
                "Section",
                SECTIONS,
                default=CURVES,
                required=True,
                key="section",
                bind="query-params",
                label_visibility="collapsed",
            )
            feed.tell()
        if section == SWEEP:
            compare_sweep.show(api, runs)
        elif section == PROMPTS:
            compare_prompts.show(api, runs)
        else:
            _overlays(api, runs, styles, settings, charts)


# ---- how they are drawn ----


def _overlays(api: Asym, runs: Sequence[Run], styles: Mapping[str, colors.Style], settings: Any, charts: Any) -> None:  # noqa: ANN401 (containers)
    with settings:
        offered = comparison.choices((run.keys for run in runs), listed("keys"))
        keys = st.multiselect(
            "Metrics",
            offered,
            default=listed("keys") or [key for key in DEFAULT_KEYS if key in offered],
            key="compare-keys",
            on_change=_remember,
            args=("keys", "compare-keys"),
        )
        look = _look(runs)
        if len(keys) > CHARTS_AT_ONCE:
            pages = -(-len(keys) // CHARTS_AT_ONCE)
            page = st.segmented_control(
                "Charts",
                [str(n + 1) for n in range(pages)],
                default="1",
                required=True,
                key="page",
                bind="query-params",
            )
            keys = keys[(int(str(page)) - 1) * CHARTS_AT_ONCE :][:CHARTS_AT_ONCE]
    active = any(run.status in wording.ACTIVE for run in runs)
    with charts.container(key=compare_opening.CURVES):
        st.fragment(run_every=live.TICK if active else None)(compare_curves.show)(api, runs, styles, keys, look)
        _configurations(runs)


def _look(runs: Sequence[Run]) -> Look:
    def kept(element: Callable[..., Any], label: str, *choices: Any, key: str, **more: Any) -> Any:  # noqa: ANN401
        return element(label, *choices, key=key, bind="query-params", **more)

    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        axis = kept(st.selectbox, "Over", axes.AXES, key="x", help=_explained(axes.EXPLAINED), width=135)
        band = kept(st.selectbox, "Seeds", seeds.BANDS, key="seeds", help=_explained(seeds.EXPLAINED), width=175)
        least = 0
        if band != seeds.APART:
            most = max(len(group.runs) for group in comparison.groups(runs, band))
            choices = ["all", *(str(n) for n in range(1, most))]
            told = "A mean is drawn at the steps at which so many runs of a group have a value"
            chosen = kept(st.selectbox, "At least", choices, key="least", help=told, width=95)
            least = 0 if chosen == "all" else int(chosen)
        smooth = kept(
            st.slider,
            "Smoothing",
            0.0,
            HEAVIEST,
            0.0,
            0.01,
            key="smooth",
            format="%.2f",
            width=170,
            help="Weight of an exponential moving average over the points drawn; the raw line stays, faint",
        )
        log = kept(st.toggle, "Log axis", key="log")
        told = "The axis need not hold the highest and the lowest 1 %; what lies outside is marked and counted"
        clip = kept(st.toggle, "Clip outliers", key="clip", help=told)
    return Look(axis, band, least, log, smooth, CLIPPED if clip else 0.0, zoom_of(st.query_params.get("zoom", "")))


def _explained(told: Mapping[str, str]) -> str:
    return "\n\n".join(f"**{name}**: {text}" for name, text in told.items())


def _remember(parameter: str, key: str) -> None:
    chosen = st.session_state[key]
    if chosen:
        st.query_params[parameter] = ",".join(chosen)
    else:
        st.query_params.pop(parameter, None)


def _configurations(runs: Sequence[Run]) -> None:
    st.subheader("Configuration: what differs", anchor=False)
    if len(runs) < 2:
        st.caption("Two runs or more have differences.")
        return
    found: Mapping[str, list[str]] = differing([run.spec for run in runs])
    if not found:
        st.caption("Nothing: the same configuration, name aside.")
        return
    rows = [
        {"field": field, **dict(zip((run.label for run in runs), held, strict=True))} for field, held in found.items()
    ]
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"field": st.column_config.TextColumn("Field", width=230, pinned=True)},
        key="compare-config",
    )
