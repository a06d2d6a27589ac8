"""What a data set is like: lengths, duplicates, answers."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.spec.dataset import Lengths, Message, Problem, StatisticsCounter, inspect
from trainer.spec.dataset.statistics import answer_kind


def problem(prompt, answer="7", kind=None):
    return Problem(1, prompt, answer, kind)


def counted(*problems):
    counter = StatisticsCounter()
    for each in problems:
        counter.add(each)
    return counter.result()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("42", "integer"), ("-1,234,567", "integer"), ("$18$", "integer"), ("$18", "integer"), ("1,23", "expression"),
        ("3.14", "decimal"), (".5", "decimal"), ("1.5e-3", "decimal"), ("1/2", "fraction"),
        (r"\frac{1}{2}", "fraction"),
        (r"$\dfrac{-3}{4}$", "fraction"), ("B", "choice"), ("(C)", "choice"), ("D.", "choice"), ("b", "text"),
        ("yes", "yes_no"), ("False", "yes_no"), (r"\sqrt{2}", "expression"), ("x^2", "expression"),
        ("(2, 3)", "expression"), ("[1, 5)", "expression"), ("2x + 1", "expression"), ("Paris", "text"),
        ("well-known", "text"), ("", "text"), ("Monday, Tuesday", "text"),
    ],
)  # fmt: skip
def test_what_an_answer_looks_like(answer, kind):
    assert answer_kind(answer) == kind


@pytest.mark.timeout(60)  # a pattern that backtracks would take hours
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1," * 50_000, "expression"),
        ("(" * 100_000, "expression"),
        ("1" * 99_999 + "x", "text"),
        ("-" * 99_999 + "ab", "text"),
    ],
)
def test_a_long_answer_takes_no_longer_than_reading_it(text, kind):
    assert answer_kind(text) == kind


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_lengths_are_those_of_the_sorted_list(values):
    found, ordered = Lengths.of(Counter(values)), sorted(values)
    assert (found.min, found.max) == (ordered[0], ordered[-1])
    assert found.median == ordered[math.ceil(0.5 * len(values)) - 1]
    assert found.p95 == ordered[math.ceil(0.95 * len(values)) - 1]
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_no_lengths_of_nothing():
    with pytest.raises(ValueError, match="no lengths"):
        Lengths.of(Counter())
    assert counted() is None


def test_duplicates_are_rows_whose_prompt_came_before():
    chat = [Message("user", "a")]
    found = counted(
        problem("a"), problem("b"), problem("a", "8"), problem(chat), problem(chat), problem([Message("system", "a")]),
        problem("a"),
    )  # fmt: skip
    assert found.duplicate_prompts == 3
    assert found.chats == 3


def test_duplicates_over_all_buckets():
    found = counted(*(problem(str(n % 3000)) for n in range(7000)))
    assert found.duplicate_prompts == 4000


def test_verifiers_and_kinds_are_counted():
    found = counted(
        problem("a", "7"), problem("b", "x^2", "math"), problem("c", "B", "choice"), problem("d", "8", "math")
    )
    assert found.answer_kinds == {"integer": 2, "choice": 1, "expression": 1}
    assert found.row_kinds == {"choice": 1, "math": 2}


def test_only_rows_that_are_right_count(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"prompt": "abc", "answer": "1"}, {"prompt": "abc"}, {"prompt": "abcdef", "answer": "12"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = inspect(path, "jsonl").statistics
    assert (found.prompt_characters.min, found.prompt_characters.max, found.answer_characters.mean) == (3, 6, 1.5)
    path.write_text("[]")
    assert inspect(path, "jsonl").statistics is None
