"""Which layouts are understood without a conversion, and what is said of those that are not."""

import json

import pytest

from trainer.spec.dataset import DataError, Message, Problem, inspect, read_problems
from trainer.spec.job import Columns

QUESTION = "What is 2+3?"
CHAT = [{"role": "user", "content": QUESTION}]
MESSAGES = [Message("user", QUESTION)]
GSM8K = "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### {}"


@pytest.fixture
def read(tmp_path):
    def read_row(row: dict, **columns) -> Problem:
        path = tmp_path / "data.jsonl"
        path.write_text(json.dumps(row) + "\n")
        (problem,) = read_problems(path, "jsonl", Columns(**columns))
        return problem

    return read_row


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        # GSM8K
        ({"question": QUESTION, "answer": GSM8K.format("72")}, QUESTION, "72"),
        ({"question": QUESTION, "answer": GSM8K.format("1,234")}, QUESTION, "1234"),
        ({"question": QUESTION, "answer": GSM8K.format("-1,000,000") + "\n"}, QUESTION, "-1000000"),
        ({"question": QUESTION, "answer": GSM8K.format("yes")}, QUESTION, "yes"),
        # verl
        ({"prompt": CHAT, "reward_model": {"ground_truth": "5", "style": "rule"}}, MESSAGES, "5"),
        ({"prompt": CHAT, "reward_model": {"ground_truth": {"target": "5", "question": QUESTION}}}, MESSAGES, "5"),
        ({"prompt": CHAT, "reward_model": {"ground_truth": 5}, "data_source": "x", "ability": "math"}, MESSAGES, "5"),
        ({"prompt": CHAT, "reward_model": {"ground_truth": ["5"]}}, MESSAGES, "5"),
        # TRL
        ({"prompt": QUESTION, "answer": "5"}, QUESTION, "5"),
        ({"prompt": CHAT, "answer": "5"}, MESSAGES, "5"),
        ({"prompt": QUESTION, "ground_truth": "5"}, QUESTION, "5"),
        ({"prompt": CHAT, "solution": r"So it is $\boxed{5}$."}, MESSAGES, "5"),
        ({"prompt": QUESTION, "completion": " 5"}, QUESTION, "5"),
        ({"prompt": CHAT, "completion": [{"role": "assistant", "content": r"\boxed{5}"}]}, MESSAGES, "5"),
        # problem sets
        (
            {"problem": QUESTION, "solution": r"$\boxed{1}$, no: $\boxed{\frac{1}{2}}$", "level": "5"},
            QUESTION,
            r"\frac{1}{2}",
        ),
        ({"problem": QUESTION, "answer": "5", "solution": r"\boxed{6}"}, QUESTION, "5"),
        ({"question": QUESTION, "final_answer": "5", "difficulty": 3}, QUESTION, "5"),
        ({"instruction": "Add.", "input": "2 and 3", "output": "5"}, "Add.\n\n2 and 3", "5"),
        ({"instruction": QUESTION, "input": "", "output": "5"}, QUESTION, "5"),
        # benchmarks as they are published
        (
            {"problem": QUESTION, "solution": "s", "answer": r"\frac{1}{2}", "level": 2, "unique_id": "test/a.json"},
            QUESTION,
            r"\frac{1}{2}",
        ),
        ({"ID": "2024-II-4", "Problem": QUESTION, "Solution": "s", "Answer": 33}, QUESTION, "33"),
        (
            {"id": 60, "problem": QUESTION, "solution": r"s \boxed{204}", "answer": "204", "year": "2024"},
            QUESTION,
            "204",
        ),
        ({"id": 0, "answer": 27.0, "url": "https://example.org", "question": QUESTION}, QUESTION, "27"),
        (
            {"question": QUESTION, "solution": ["s"], "final_answer": ["2,3"], "context": None, "unit": None},
            QUESTION,
            "2,3",
        ),
        # chat
        ({"messages": CHAT, "answer": "5"}, MESSAGES, "5"),
        ({"messages": [*CHAT, {"role": "assistant", "content": "#### 5"}]}, MESSAGES, "5"),
        ({"messages": [*CHAT, {"role": "assistant", "content": "6"}], "answer": "5"}, MESSAGES, "5"),
        ({"messages": json.dumps(CHAT), "answer": "5"}, MESSAGES, "5"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}], "answer": "5"},
            MESSAGES,
            "5",
        ),
        # the answer's form
        ({"prompt": QUESTION, "answer": 42}, QUESTION, "42"),
        ({"prompt": QUESTION, "answer": -0.5}, QUESTION, "-0.5"),
        ({"prompt": QUESTION, "answer": 42.0}, QUESTION, "42"),
        ({"prompt": QUESTION, "answer": 10**30}, QUESTION, str(10**30)),
        ({"prompt": QUESTION, "answer": r"$\boxed{5}$"}, QUESTION, "5"),
        (
            {"prompt": QUESTION, "answer": r"\boxed{1} \text{ or } \boxed{2}"},
            QUESTION,
            r"\boxed{1} \text{ or } \boxed{2}",
        ),
        ({"prompt": QUESTION, "answer": " 5 \n"}, QUESTION, "5"),
        # several columns
        ({"prompt": QUESTION, "question": "other", "answer": "5"}, QUESTION, "5"),
        ({"prompt": None, "question": QUESTION, "answer": "5"}, QUESTION, "5"),
        ({"prompt": QUESTION, "answer": GSM8K.format("5"), "ground_truth": "5"}, QUESTION, "5"),
        ({"prompt": QUESTION, "answer": None, "ground_truth": "5"}, QUESTION, "5"),
    ],
)
def test_understood(read, row, prompt, answer):
    assert read(row) == Problem(1, prompt, answer, None)


def test_a_number_keeps_the_digits_it_was_written_with(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "p", "answer": 2.50}\n{"prompt": "p", "answer": 0.1000000000000000055}\n')
    assert [problem.answer for problem in read_problems(path, "jsonl")] == ["2.50", "0.1000000000000000055"]


@pytest.mark.parametrize(
    ("row", "columns", "prompt", "answer"),
    [
        ({"q": QUESTION, "a": "5"}, {"prompt": "q", "answer": "a"}, QUESTION, "5"),
        ({"q": CHAT, "a": GSM8K.format("1,000")}, {"prompt": "q", "answer": "a"}, MESSAGES, "1000"),
        ({"x": {"q": QUESTION}, "y": {"z": {"a": 5}}}, {"prompt": "x.q", "answer": "y.z.a"}, QUESTION, "5"),
        ({"x.q": QUESTION, "x": {"q": "no"}, "answer": "5"}, {"prompt": "x.q"}, QUESTION, "5"),
        ({"prompt": QUESTION, "answer": "1", "ground_truth": "2"}, {"answer": "ground_truth"}, QUESTION, "2"),
        ({"prompt": "no", "question": QUESTION, "answer": "5"}, {"prompt": "question"}, QUESTION, "5"),
        ({"prompt": QUESTION, "answer": "1", "solution": r"\boxed{2}"}, {"answer": "solution"}, QUESTION, "2"),
        ({"prompt": QUESTION, "meta": '{"a": "5"}'}, {"answer": "meta.a"}, QUESTION, "5"),
    ],
)
def test_named_columns(read, row, columns, prompt, answer):
    assert read(row, **columns) == Problem(1, prompt, answer, None)


def test_a_row_may_have_a_verifier_of_its_own(read):
    row = {"prompt": QUESTION, "answer": "5"}
    assert read({**row, "kind": "exact"}).kind == "exact"
    assert read({**row, "kind": None}).kind is None


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (
            {"text": "a", "label": "b"},
            "prompt",
            "no column with the prompt; found: 'text', 'label'; understood: prompt, problem",
        ),
        (
            {"prompt": QUESTION},
            "answer",
            "no column with the answer; found: 'prompt'; understood: answer, reward_model",
        ),
        ({"answer": "5"}, "prompt", "no column with the prompt"),
        ({"prompt": "", "answer": "5"}, "prompt", "is empty"),
        ({"prompt": " \n", "answer": "5"}, "prompt", "is empty"),
        ({"prompt": None, "answer": "5"}, "prompt", "missing: it is null"),
        ({"prompt": 5, "answer": "5"}, "prompt", "must be text or a list of chat messages, not a number"),
        ({"prompt": {"a": 1}, "answer": "5"}, "prompt", "not an object"),
        ({"prompt": QUESTION, "answer": ""}, "answer", "is empty"),
        ({"prompt": QUESTION, "answer": None}, "answer", "missing: it is null"),
        ({"prompt": QUESTION, "answer": True}, "answer", "must be text or a number, not true/false"),
        ({"prompt": QUESTION, "answer": ["1", "2"]}, "answer", "must be one answer, not a list of 2"),
        ({"prompt": QUESTION, "answer": []}, "answer", "must be one answer, not a list of 0"),
        ({"prompt": QUESTION, "answer": {"value": 1}}, "answer", "is an object without `target`; found: value"),
        ({"prompt": QUESTION, "answer": "so\n####"}, "answer", "nothing follows ####"),
        ({"prompt": QUESTION, "reward_model": {"style": "rule"}}, "reward_model.ground_truth", "missing"),
        ({"prompt": QUESTION, "answer": "5", "ground_truth": "6"}, "answer", "ambiguous: answer '5', ground_truth '6'"),
        ({"prompt": [], "answer": "5"}, "prompt", "has no message"),
        ({"prompt": ["hi"], "answer": "5"}, "prompt", "message 1 must be an object with role and content, not text"),
        ({"prompt": [{"role": "king", "content": "x"}], "answer": "5"}, "prompt", "message 1 has role 'king'"),
        ({"prompt": [{"role": "user"}], "answer": "5"}, "prompt", "message 1: content must be text, not null"),
        ({"prompt": [{"role": "system", "content": "x"}], "answer": "5"}, "prompt", "must be from the user"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "answer": "5"}, "prompt", "must be from the user"),
        ({"prompt": [{"role": "user", "content": " "}], "answer": "5"}, "prompt", "the last user message is empty"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "url": "x"}]}], "answer": "5"},
            "prompt",
            "only text content is understood",
        ),
        ({"messages": "not JSON", "answer": "5"}, "messages", "is text that is not JSON"),
        ({"prompt": "a\0b", "answer": "5"}, "prompt", "has a NUL character"),
        ({"prompt": "a\ud800b", "answer": "5"}, "prompt", "has half a surrogate pair at character 2"),
        ({"prompt": QUESTION, "answer": "\udc00"}, "answer", "has half a surrogate pair"),
        (
            {"prompt": QUESTION, "answer": "5", "kind": "maths"},
            "kind",
            "unknown verifier 'maths'; one of: math",
        ),
        ({"prompt": QUESTION, "answer": "5", "kind": 3}, "kind", "a number is no verifier"),
    ],
)
def test_refused(read, row, field, message):
    with pytest.raises(DataError) as raised:
        read(row)
    assert raised.value.error.line == 1
    assert raised.value.error.field == field
    assert message in raised.value.error.msg


def test_a_named_column_that_is_not_there(read):
    with pytest.raises(DataError, match="found: 'prompt', 'answer'; understood: question"):
        read({"prompt": "p", "answer": "5"}, prompt="question")


def test_both_fields_of_a_row_are_reported(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "", "answer": null, "kind": "no"}\n')
    assert [(error.line, error.field) for error in inspect(path, "jsonl").errors] == [
        (1, "prompt"),
        (1, "answer"),
        (1, "kind"),
    ]


def test_the_report_says_which_columns_were_taken(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(
        '{"question": "q", "answer": "#### 1"}\n{"prompt": "p", "answer": "2"}\n{"prompt": "p", "solution": "3"}\n'
    )
    assert inspect(path, "jsonl").sources == {
        "prompt": {"question": 1, "prompt": 2},
        "answer": {"answer": 2, "solution": 1},
    }


def test_rows_without_an_answer_can_be_passed_over(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(
        '{"prompt": "p", "answer": "1"}\n'
        '{"prompt": "p", "answer": ""}\n'
        '{"prompt": "p", "answer": null}\n'
        '{"prompt": "", "answer": ""}\n'
    )
    strict = inspect(path, "jsonl")
    assert [error.line for error in strict.errors] == [2, 3, 4, 4]
    assert strict.unanswered_count == 0
    lenient = inspect(path, "jsonl", skip_unanswered=True)
    assert [error.line for error in lenient.errors] == [4, 4]
    assert [error.line for error in lenient.unanswered] == [2, 3]
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    assert inspect(path, "jsonl", skip_unanswered=True).ok
    passed_over: list[int] = []
    kept = read_problems(path, "jsonl", skip_unanswered=True, unanswered=passed_over)
    assert [problem.row for problem in kept] == [1]
    assert passed_over == [2, 3]
    with pytest.raises(DataError, match="line 2: answer: is empty"):
        list(read_problems(path, "jsonl"))


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"kind": "numeric", "options": {"tolerance": -1}}, "options", "options.tolerance: Input should be greater"),
        ({"kind": "exact", "options": {"tolerance": 1}}, "options", "options.tolerance: unknown option (of exact)"),
        ({"kind": "regex", "options": {"pattern": "(?=a)"}}, "options", "lookaround"),
        ({"options": {"tolerence": 1}}, "options", "no verifier has an option 'tolerence'"),
        ({"options": '{"tolerance": '}, "options", "not JSON"),
        ({"kind": "regex", "answer": "(?=a)"}, "answer", "lookaround"),
        ({"kind": "http:judge"}, "kind", "unknown verifier 'http:judge'"),
        ({"kind": "plugin:mine"}, "kind", "unknown verifier 'plugin:mine'"),
        ({"kind": "python"}, "kind", "unknown verifier 'python'"),
        ({"metadata": '{"a": '}, "metadata", "not JSON"),
        ({"metadata": {"a": "x\0"}}, "metadata", "NUL"),
        ({"answer": "1" * 1_000_000}, "answer", "1,000,000 characters; the limit is 100,000"),
    ],
)
def test_what_is_wrong_with_a_rows_verifier_is_refused_with_its_line(read, row, field, message):
    with pytest.raises(DataError) as raised:
        read({"prompt": QUESTION, "answer": "5", **row})
    assert (raised.value.error.line, raised.value.error.field) == (1, field)
    assert message in raised.value.error.msg


@pytest.mark.parametrize("column", ["options", "metadata"])
@pytest.mark.parametrize("value", [None, "", "free text", ["A) 1", "B) 2"], 7])
def test_options_and_metadata_that_are_no_objects_are_somebody_elses(read, column, value):
    problem = read({"prompt": QUESTION, "answer": "5", column: value})
    assert (problem.options, problem.metadata) == (None, None)


def test_a_row_brings_options_and_metadata(read):
    metadata = {"source": "x", "size": 3, "ratio": 0.5, "cells": [[1, 2], []], "none": None, "yes": True}
    problem = read({"prompt": QUESTION, "answer": "5", "options": {"tolerance": 0.5}, "metadata": metadata})
    assert (problem.options, problem.metadata) == ({"tolerance": 0.5}, metadata)
    as_text = read({"prompt": QUESTION, "answer": "5", "metadata": json.dumps(metadata)})
    assert as_text.metadata == metadata
