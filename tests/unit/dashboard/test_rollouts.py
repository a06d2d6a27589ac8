"""The groups of a step as the page hands them to the browser."""

from typing import Any

import pytest

from dashboard import rollout_cards
from dashboard.views.rollouts import by_group, drawn, matching

HOSTILE = "<script>alert(1)</script>\n![x](http://evil/x.png)"


def rollout(group: int = 0, sample: int = 0, **changed: Any) -> dict[str, Any]:
    return {
        "group": group,
        "sample": sample,
        "row": 7,
        "prompt": "2+2=",
        "completion": "4",
        "answer": "4",
        "reward": 1.0,
        "correct": True,
        "advantage": 0.5,
        "bonus": None,
        "tokens": 2,
        "truncated": False,
        "entropy": 0.25,
        "token_entropies": None,
        "token_ends": None,
    } | changed


def wrong(**changed: Any) -> dict[str, Any]:
    return rollout(**{"correct": False, "reward": 0.0, "advantage": -0.125, "completion": "5"} | changed)


def test_groups_and_samples_come_in_their_order_whatever_the_answers_order():
    found = by_group([rollout(1, 1), rollout(0, 1), rollout(1, 0), rollout(0, 0)])
    samples = {group: [each["sample"] for each in members] for group, members in found.items()}
    assert samples == {0: [0, 1], 1: [0, 1]}
    assert list(found) == [0, 1]


def test_text_goes_to_the_browser_unchanged():
    hostile = wrong(prompt=HOSTILE, completion=HOSTILE, answer=HOSTILE)
    sent = rollout_cards.payload(drawn(0, [hostile], [hostile], ""))
    assert (sent["prompt"], sent["answer"], sent["cards"][0]["completion"]) == (HOSTILE, HOSTILE, HOSTILE)


@pytest.mark.parametrize(
    ("outcome", "needle", "samples"),
    [
        ("all", "", [0, 1, 2]),
        ("correct", "", [0]),
        ("incorrect", "", [1, 2]),
        ("all", "SIX", [2]),
        ("correct", "six", []),
        ("incorrect", "2+2", [1, 2]),
    ],
)
def test_filters_look_at_the_outcome_and_at_both_texts(outcome, needle, samples):
    found = [rollout(), wrong(sample=1), wrong(sample=2, completion="maybe Six")]
    assert [each["sample"] for each in matching(found, outcome, needle)] == samples


def test_a_title_tells_how_the_group_did_and_what_follows_for_its_rollouts():
    whole = [rollout(), wrong(sample=1), wrong(sample=2, advantage=-0.25)]
    assert drawn(1, whole, whole[:1], "").title == (
        "Group 2 · data row 7 · 1 of 3 correct · advantage of correct +0.5 · advantage of incorrect −0.25 to −0.125"
        " · 1 of 3 shown"
    )


def test_a_uniform_group_says_that_it_teaches_nothing():
    whole = [rollout(advantage=0.0), rollout(sample=1, advantage=0.0)]
    assert drawn(0, whole, whole, "").title == "Group 1 · data row 7 · 2 of 2 correct · no gradient: all alike"
    # A bonus tells them apart.
    apart = [rollout(advantage=0.1, bonus=0.2), rollout(sample=1, advantage=-0.1, bonus=0.0)]
    assert "no gradient" not in drawn(0, apart, apart, "").title


def test_a_card_states_the_facts_of_its_rollout():
    whole = [wrong(entropy=None, truncated=True, bonus=-0.5)]
    (card,) = drawn(0, whole, whole, "").cards
    assert card.facts == ["sample 0", "reward 0", "bonus −0.5", "advantage −0.125", "2 tokens", "entropy –"]
    assert card.truncated
