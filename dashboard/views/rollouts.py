"""What the model wrote: the groups of one step, the rollouts of a group side by side.

Step, group, outcome and search are in the URL. Keys: n and p go to the next and the previous group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from client import Asym
from dashboard import live, rollout_cards, wording
from dashboard.live import Feed

PAGE = 200
MOST = 1000
"""Rollouts that are fetched of one step: more are not read by people."""
OUTCOMES = ("all", "correct", "incorrect")

Rollouts = Sequence[Mapping[str, Any]]


def show(api: Asym, job: Mapping[str, Any]) -> None:
    st.fragment(_browse)(api, job["id"], job["progress"]["step"], job["spec"])


@dataclass(frozen=True)
class Place:
    """Names of the widgets' values in the session: one set per run."""

    job_id: str

    @property
    def slider(self) -> str:
        return f"rollout-slider-{self.job_id}"

    @property
    def step(self) -> str:
        return f"rollout-step-{self.job_id}"

    @property
    def group(self) -> str:
        return f"rollout-group-{self.job_id}"


def _browse(api: Asym, job_id: str, known: int, spec: Mapping[str, Any]) -> None:
    with live.api_trouble():
        feed = Feed(api)
        newest = max(known, feed.get(f"job/{job_id}", lambda api: api.job(job_id))["progress"]["step"])
        if newest < 1:
            st.info("No step is done yet.")
            st.button("Look again", icon=":material/refresh:")
            return
        place = Place(job_id)
        step = _step(place, newest)
        outcome, needle = _filters()
        found = _fetched(feed, job_id, step)
        feed.tell()
        stored = spec["diagnostics"]["rollout_groups"]
        if not found:
            st.info(
                "No rollout of this run is stored with its text (diagnostics.rollout_groups is 0)."
                if stored == 0
                else "No rollout of this step is stored."
            )
            return
        groups = by_group(found)
        shown = {number: kept for number, group in groups.items() if (kept := matching(group, outcome, needle))}
        if not shown:
            st.info(f"None of the step's {len(found)} stored rollouts is like that.", icon=":material/filter_alt_off:")
            return
        number = _group(place, groups, list(shown))
        rollout_cards.show(drawn(number, groups[number], shown[number], needle), key=f"rollout-cards-{job_id}")
        hint = "" if spec["diagnostics"].get("token_entropies") else " diagnostics.token_entropies shades the texts."
        st.caption(f"The first {len(groups)} groups of each step are stored.{hint}")


def _step(place: Place, newest: int) -> int:
    """The chosen step: by slider, by number, or from the URL."""
    state = st.session_state
    asked = st.query_params.get("step", "")
    if place.step not in state:
        state[place.step] = int(asked) if asked.isdecimal() else newest
    state[place.step] = min(max(1, state[place.step]), newest)
    state[place.slider] = state[place.step]
    left, middle, right = st.columns([6, 1.4, 1.2], vertical_alignment="bottom")
    if newest > 1:
        left.slider("Step", 1, newest, key=place.slider, on_change=_go_to, args=(place, place.slider))
    middle.number_input(
        f"Step, 1 to {newest}",
        min_value=1,
        max_value=newest,
        key=place.step,
        on_change=_go_to,
        args=(place, place.step),
    )
    right.button(
        "Newest", icon=":material/last_page:", on_click=_newest, args=(place, newest), help="The newest step there is"
    )
    return int(state[place.step])


def _go_to(place: Place, widget: str) -> None:
    chosen = st.session_state[widget]
    st.session_state[place.step] = chosen
    st.query_params["step"] = str(chosen)


def _newest(place: Place, newest: int) -> None:
    st.session_state[place.step] = newest
    st.query_params.pop("step", None)


def _filters() -> tuple[str, str]:
    left, right = st.columns([2, 5], vertical_alignment="bottom")
    outcome = left.segmented_control(
        "Outcome", OUTCOMES, default="all", required=True, key="outcome", bind="query-params"
    )
    needle = right.text_input(
        "Search",
        key="find",
        bind="query-params",
        placeholder="Search in prompts and completions of this step",
        icon=":material/search:",
        label_visibility="collapsed",
    )
    return str(outcome), needle or ""


def _fetched(feed: Feed, job_id: str, step: int) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    after: str | None = None
    while len(found) < MOST:
        page = feed.get(
            f"rollouts/{job_id}/{step}/{after}",
            lambda api, after=after: api.rollouts(job_id, step=step, after=after, limit=PAGE),  # type: ignore[misc]
        )
        found += page["data"]
        if not page["has_more"]:
            break
        after = page["next"]
    return found


def _group(place: Place, groups: Mapping[int, Rollouts], shown: list[int]) -> int:
    """The chosen group, one of `shown`."""
    state = st.session_state
    asked = st.query_params.get("group", "")
    if place.group not in state and asked.isdecimal():
        state[place.group] = int(asked)
    if state.get(place.group) not in shown:
        state[place.group] = shown[0]
    at = shown.index(state[place.group])
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, icon, key, to in (
            ("Previous", ":material/arrow_back:", "p", at - 1),
            ("Next", ":material/arrow_forward:", "n", at + 1),
        ):
            st.button(
                label,
                icon=icon,
                shortcut=key,
                disabled=not 0 <= to < len(shown),
                key=f"rollout-{label}",
                on_click=_choose,
                args=(place, shown[to % len(shown)]),
            )
        st.segmented_control(
            "Group",
            shown,
            required=True,
            key=place.group,
            format_func=lambda number: f"{number + 1} · {correct_of(groups[number])}/{len(groups[number])}",
            label_visibility="collapsed",
            on_change=_remember,
            args=(place,),
        )
    return int(state[place.group])


def _choose(place: Place, number: int) -> None:
    st.session_state[place.group] = number
    _remember(place)


def _remember(place: Place) -> None:
    st.query_params["group"] = str(st.session_state[place.group])


def by_group(rollouts: Rollouts) -> dict[int, list[Mapping[str, Any]]]:
    """The rollouts of each group, groups and samples in their order."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for rollout in sorted(rollouts, key=lambda each: (each["group"], each["sample"])):
        groups.setdefault(rollout["group"], []).append(rollout)
    return groups


def correct_of(rollouts: Rollouts) -> int:
    return sum(rollout["correct"] for rollout in rollouts)


def matching(rollouts: Rollouts, outcome: str, needle: str) -> list[Mapping[str, Any]]:
    """Those of the outcome whose prompt or completion contains the needle, in either case."""
    wanted = {"all": (True, False), "correct": (True,), "incorrect": (False,)}[outcome]
    low = needle.lower()
    return [
        rollout
        for rollout in rollouts
        if rollout["correct"] in wanted and (low in rollout["prompt"].lower() or low in rollout["completion"].lower())
    ]


def drawn(number: int, whole: Rollouts, shown: Rollouts, needle: str) -> rollout_cards.Group:
    """The group for the browser. `whole` are all of its rollouts, `shown` those that the filters leave."""
    return rollout_cards.Group(
        title=_title(number, whole, len(shown)),
        prompt=whole[0]["prompt"],
        answer=whole[0]["answer"],
        cards=[_card(rollout) for rollout in shown],
        needle=needle,
    )


def _title(number: int, whole: Rollouts, shown: int) -> str:
    correct = correct_of(whole)
    parts = [f"Group {number + 1}", f"data row {whole[0]['row']}", f"{correct} of {len(whole)} correct"]
    for verdict, name in ((True, "correct"), (False, "incorrect")):
        weights = [rollout["advantage"] for rollout in whole if rollout["correct"] is verdict]
        if weights and 0 < correct < len(whole):
            least, most = wording.signed(min(weights)), wording.signed(max(weights))
            parts.append(f"advantage of {name} {least}" + ("" if least == most else f" to {most}"))
    if correct in (0, len(whole)) and all(rollout["advantage"] == 0 for rollout in whole):
        parts.append("no gradient: all alike")
    if shown < len(whole):
        parts.append(f"{shown} of {len(whole)} shown")
    return " · ".join(parts)


def _card(rollout: Mapping[str, Any]) -> rollout_cards.Card:
    facts = [
        f"sample {rollout['sample']}",
        f"reward {wording.number(rollout['reward'])}",
        f"advantage {wording.signed(rollout['advantage'])}",
        f"{rollout['tokens']} tokens",
        f"entropy {wording.number(rollout['entropy'])}",
    ]
    if rollout["bonus"] is not None:
        facts.insert(2, f"bonus {wording.signed(rollout['bonus'])}")
    return rollout_cards.Card(
        sample=rollout["sample"],
        correct=rollout["correct"],
        facts=facts,
        advantage=rollout["advantage"],
        completion=rollout["completion"],
        truncated=rollout["truncated"],
        token_entropies=rollout["token_entropies"],
        token_ends=rollout["token_ends"],
    )
