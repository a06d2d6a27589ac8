"""Several runs over each other: the same metrics on one axis, what their configurations differ in, who is best.

All that one chooses here is in the address: a copied link shows the same comparison in any browser.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from client import Asym
from client.results import Clock
from dashboard import axes, colors, comparison, curves, export, live, seeds, wording
from dashboard.chart.live import Sender
from dashboard.comparison import Group, Look, Material, Run
from dashboard.differences import differing
from dashboard.kept_curves import JOBS_AT_ONCE, KeptCurves, Question, up_to_date
from dashboard.live import Feed
from dashboard.views import compare_prompts, compare_runs, compare_sweep

CHARTS_AT_ONCE = 12
POINTS, FEWEST_POINTS, POINTS_OF_A_CHART = 600, 60, 12_000
"""Per curve: more than a chart half a screen wide has columns of pixels; fewer where there are many runs."""
SUMMARY_POINTS = 100
CLIPPED = 0.01
DEFAULT_KEYS = ("group/accuracy", "entropy/informative", "entropy/spurious", "policy/grad_norm")
CURVES, SWEEP, PROMPTS = SECTIONS = ("Curves", "Sweep", "Prompts")
STATE = "asym_compare"


def show(api: Asym) -> None:
    st.title("Compare")
    with live.api_trouble():
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
            _overlays(api, runs, styles)


# ---- how they are drawn ----


def _overlays(api: Asym, runs: Sequence[Run], styles: Mapping[str, colors.Style]) -> None:
    offered = comparison.choices((run.keys for run in runs), _listed("keys"))
    keys = st.multiselect(
        "Metrics",
        offered,
        default=_listed("keys") or [key for key in DEFAULT_KEYS if key in offered],
        key="compare-keys",
        on_change=_remember,
        args=("keys", "compare-keys"),
    )
    look = _look(runs)
    if len(keys) > CHARTS_AT_ONCE:
        pages = -(-len(keys) // CHARTS_AT_ONCE)
        page = st.segmented_control(
            "Charts", [str(n + 1) for n in range(pages)], default="1", required=True, key="page", bind="query-params"
        )
        keys = keys[(int(str(page)) - 1) * CHARTS_AT_ONCE :][:CHARTS_AT_ONCE]
    active = any(run.status in wording.ACTIVE for run in runs)
    st.fragment(run_every=live.TICK if active else None)(_curves)(api, runs, styles, keys, look)
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
            0.99,
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


def zoom_of(parameter: str) -> tuple[float, float] | None:
    """Of `120,480.5`; None for what is no range."""
    parts = parameter.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        return None
    return (low, high) if 0 <= low < high < float("inf") else None


def _listed(parameter: str) -> list[str]:
    return list(dict.fromkeys(part for part in st.query_params.get(parameter, "").split(",") if part))


def _remember(parameter: str, key: str) -> None:
    chosen = st.session_state[key]
    if chosen:
        st.query_params[parameter] = ",".join(chosen)
    else:
        st.query_params.pop(parameter, None)


def _zoomed(key: str) -> None:
    found = (st.session_state.get(key) or {}).get("range")
    if found:
        st.query_params["zoom"] = f"{found[0]:.8g},{found[1]:.8g}"
    else:
        st.query_params.pop("zoom", None)


# ---- the part that repeats itself ----


def _curves(
    api: Asym, runs: Sequence[Run], styles: Mapping[str, colors.Style], keys: Sequence[str], look: Look
) -> None:
    if not keys:
        st.info("Choose a metric.")
        return
    with live.api_trouble():
        feed = Feed(api)
        state = st.session_state.setdefault(STATE, {})
        zoom = zoom_of(st.query_params.get("zoom", ""))
        look = Look(**{**vars(look), "zoom": zoom})
        kept = up_to_date(feed, state, "curves", _question(runs, keys, look))
        columns = _closer(feed, state, kept, look)
        ends = kept
        if look.band != seeds.APART:
            # What is thinned to the same steps has lost its extremes.
            ends = up_to_date(feed, state, "ends", Question(kept.question.job_ids, tuple(keys), SUMMARY_POINTS))
        clocks = _clocks(feed, state, kept) if axes.needs_clock(look.axis) else {}
        feed.tell()
        if not kept.active and any(run.status in wording.ACTIVE for run in runs):
            st.rerun()  # all have ended: nothing to look at again
        now = [Run(**{**vars(run), "status": kept.status.get(run.id, run.status)}) for run in runs]
        shown = comparison.groups(now, look.band)
        _draw(api, state, shown, keys, Material(columns, styles, clocks), look)
        address = export.address(api, kept.question.job_ids, keys, state.setdefault("exports", {}))
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
            st.subheader("Summary", anchor=False, width="content")
            st.link_button("All points as CSV", address, icon=":material/download:")
        _summary(comparison.summary(shown, ends.columns, keys), keys, grouped=look.band != seeds.APART)


def _question(runs: Sequence[Run], keys: Sequence[str], look: Look) -> Question:
    points = max(FEWEST_POINTS, min(POINTS, POINTS_OF_A_CHART // len(runs)))
    asked = comparison.asked_for(keys, look.axis)
    return Question(
        tuple(run.id for run in runs), asked, points, "extremes" if look.band == seeds.APART else "same_steps"
    )


def _closer(feed: Feed, state: dict[str, Any], kept: KeptCurves, look: Look) -> Mapping[str, curves.Columns]:
    """The curves, where one has zoomed in on steps at full detail."""
    thinned = any(
        series["step"] and series["step"][-1] > kept.question.max_points
        for columns in kept.columns.values()
        for series in columns.values()
    )
    if look.zoom is None or look.axis != axes.STEP or not thinned:
        return kept.columns
    within = (int(look.zoom[0]), int(look.zoom[1]))
    asked = kept.question
    detail = up_to_date(
        feed, state, "detail", Question(asked.job_ids, asked.keys, asked.max_points, asked.thinned, within)
    )
    return {
        job_id: curves.finer(columns, detail.columns.get(job_id, {}), within)
        for job_id, columns in kept.columns.items()
    }


def _clocks(feed: Feed, state: dict[str, Any], kept: KeptCurves) -> Mapping[str, Clock]:
    """Asked for along with whole curves; in between the last pace goes on."""
    asked = (kept.question.job_ids, kept.renewed)
    if state.get("clocks-of") != asked:
        ids = kept.question.job_ids
        found: dict[str, Clock] = {}
        for start in range(0, len(ids), JOBS_AT_ONCE):
            part = ids[start : start + JOBS_AT_ONCE]
            found |= feed.get(f"compare/clocks/{part}", lambda api, part=part: api.clocks(part))  # type: ignore[misc]
        state["clocks-of"], state["clocks"] = asked, found
    clocks: Mapping[str, Clock] = state["clocks"]
    return clocks


def _draw(
    api: Asym, state: dict[str, Any], shown: Sequence[Group], keys: Sequence[str], material: Material, look: Look
) -> None:
    sender: Sender = state.setdefault("sender", Sender())
    ids = [run.id for group in shown for run in group.runs]
    cells: list[Any] = []
    with sender.refresh(key="compare-tails") as refresh:
        for key in keys:
            if not cells:
                cells = list(st.columns(2, gap="medium"))
            csv = export.address(api, ids, [key], state.setdefault("exports", {}))
            drawn = comparison.overlay(key, shown, material, Look(**{**vars(look), "csv": csv}))
            name = f"compare-{key}"
            with cells.pop(0):
                refresh.show(drawn, key=name, on_range=partial(_zoomed, name))


def _summary(rows: list[dict[str, Any]], keys: Sequence[str], *, grouped: bool) -> None:
    config = st.column_config
    columns: dict[str, Any] = {
        "run": config.TextColumn("Run", width=200, pinned=True),
        "runs": config.NumberColumn("Runs", width=60, help="How many seeds") if grouped else None,
        "status": config.TextColumn("Status", width=90),
        "step": config.NumberColumn("Step", width=70, help="Of a group, the least"),
    }
    for key in keys:
        columns[f"{key} last"] = config.NumberColumn(f"{key}, last", format="%.4g")
        told = "Sample standard deviation of the last values over seeds"
        columns[f"{key} spread"] = config.NumberColumn("± s.d.", format="%.2g", help=told) if grouped else None
        columns[f"{key} extreme"] = config.TextColumn(comparison.extreme(key), alignment="right")
    st.dataframe(rows, hide_index=True, column_config=columns, key="compare-summary", placeholder=wording.NOTHING)


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
