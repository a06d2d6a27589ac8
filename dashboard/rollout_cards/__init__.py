"""The rollouts of one group side by side, as the browser shows them: characters only, shaded by token entropy.

    rollout_cards.show(Group(...), key="rollout-group")

Prompts and completions are strangers' text. cards.js puts every character of them into text nodes; nothing of them is
read as HTML, Markdown or an address.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import streamlit as st

FULL_SHADE = 2.0
"""Nats at which a token has the darkest shade; the same on every page, so that steps and runs can be compared."""


@dataclass(frozen=True)
class Card:
    """One rollout."""

    sample: int
    correct: bool
    facts: Sequence[str]
    """What there is to know of it in a few words each: reward, advantage, tokens."""
    advantage: float
    completion: str
    truncated: bool
    token_entropies: Sequence[float] | None = None
    """Nats, one per token; None where they were not stored."""
    token_ends: Sequence[int] | None = None
    """Where each token ends in `completion`, in Unicode code points."""


@dataclass(frozen=True)
class Group:
    title: str
    prompt: str
    answer: str
    cards: Sequence[Card]
    needle: str = ""
    """Marked wherever it occurs in the texts, in either case; empty marks nothing."""


def show(group: Group, *, key: str) -> None:
    """Draw the group. The same key on the next run feeds the element that is already there."""
    _component()(data=payload(group), key=key)


def payload(group: Group) -> dict[str, Any]:
    """The group as the JSON that cards.js reads."""
    return {**asdict(group), "full_shade": FULL_SHADE}


@cache
def _component() -> Any:  # noqa: ANN401 (Streamlit's renderer; its type is not public)
    here = files(__package__)
    return st.components.v2.component(
        "asym_rollout_cards",
        js=(here / "cards.js").read_text("utf-8"),
        css=(here / "cards.css").read_text("utf-8"),
    )
