"""The similarity verifier against numbers worked out by hand and against a plain table of the longest subsequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rewards import check_answer, verify
from trainer.rewards.similarity import common_subsequence, similarity


def plain_common_subsequence(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        before = row
        row = [0]
        for index, y in enumerate(b):
            row.append(before[index] + 1 if x == y else max(row[index], before[index + 1]))
    return row[-1]


@given(st.text(alphabet="abc", max_size=40), st.text(alphabet="abcd", max_size=40))
def test_the_bits_count_as_the_table_does(a, b):
    assert common_subsequence(a, b) == plain_common_subsequence(a, b)


@pytest.mark.parametrize(
    ("metric", "response", "answer", "expected"),
    [
        ("fuzzy_match", "kitten", "sitting", 2 * 4 / 13),  # i, t, t, n
        ("fuzzy_match", "", "x", 0.0),
        ("rouge_1", "the cat sat", "The cat ate the fish", 2 * 2 / 8),  # the, cat
        ("rouge_2", "the cat sat", "the cat ate", 2 * 1 / 4),  # the cat
        ("rouge_l", "the cat sat on it", "the dog sat", 2 * 2 / 8),
        ("rouge_5", "a b c d e", "a b c d e", 1.0),
        ("rouge_3", "a b", "a b c", 0.0),
    ],
)
def test_similarities_worked_out_by_hand(metric, response, answer, expected):
    assert similarity(response, answer, metric) == pytest.approx(expected)


def test_the_verdict_is_right_from_the_threshold_on():
    assert verify("similarity", "the cat sat", "the cat ate", metric="rouge_2", threshold=0.5) == 1.0
    assert verify("similarity", "the cat sat", "the cat ate", metric="rouge_2", threshold=0.51) == 0.0


def test_answers_that_nothing_can_be_like_are_told():
    assert check_answer("similarity", " ") == "the answer is empty"
    assert (
        check_answer("similarity", "a b", metric="rouge_3") == "the answer has 2 words, and rouge_3 compares runs of 3"
    )
    assert check_answer("similarity", "a b") is None
