"""JSONL: every bad line is reported with its number, and none of them stops the reading or fills the memory."""

import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.spec.dataset import MAX_LISTED_ERRORS, DataError, Limits, RowError, inspect, read_problems

GOOD = b'{"prompt": "2+3=", "answer": "5"}\n'


def report(data: bytes, **limits):
    return inspect(io.BytesIO(data), "jsonl", limits=Limits(**limits))


def test_the_bad_lines_3_7_and_9_and_no_others():
    lines = [GOOD] * 10
    lines[2], lines[6], lines[8] = b'{"prompt": "2+3="}\n', b"not JSON\n", b'{"prompt": "", "answer": "5"}\n'
    inspection = report(b"".join(lines))
    assert [error.line for error in inspection.errors] == [3, 7, 9]
    assert (inspection.rows, inspection.error_count, inspection.ok) == (7, 3, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "\xff", "answer": "5"}', "not UTF-8: byte 13 of the line is 0xff"),
        (b'{"prompt": "p", "answer" "5"}', "not JSON: Expecting ':' delimiter at character 26"),
        (b'{"prompt": "p", "answer": "5"', "not JSON"),
        (b'{"prompt": "p", "answer": "5"}{"prompt": "p", "answer": "5"}', "not JSON: Extra data at character 31"),
        (b"{'prompt': 'p', 'answer': '5'}", "not JSON"),
        (b'["p", "5"]', "must be a JSON object, is a list; a file of JSON lines has one object on each line"),
        (b'"text"', "must be a JSON object, is text"),
        (b"42", "must be a JSON object, is a number"),
        (b"null", "must be a JSON object, is null"),
        (b"true", "must be a JSON object, is true or false"),
        (b'{"prompt": "p", "answer": NaN}', "NaN is not JSON"),
        (b'{"prompt": "p", "answer": "5", "x": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"prompt": "p", "answer": "5", "answer": "6"}', "key 'answer' is given twice"),
        (b'{"prompt": "p", "answer": "5", "x": {"y": 1, "y": 2}}', "key 'y' is given twice"),
        (b'{"prompt": "p", "answer": ' + b"9" * 1001 + b"}", "a number of 1,001 characters; the limit is 1,000"),
        (b'{"prompt": "p", "answer": 0.' + b"9" * 5000 + b"}", "a number of 5,002 characters; the limit is 1,000"),
        (b'{"prompt": "p", "answer": 1e99999}', "is out of range"),
        (b'{"prompt": "p", "answer": 1e99999999999999999999}', "is out of range"),
        (b'{"prompt": "p", "answer": "5", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 100"),
        (b'{"prompt": "p", "x": ' + b'{"a":' * 5000, "nested deeper than 100"),
        (b'{"prompt": "p\x01", "answer": "5"}', "not JSON: Invalid control character"),
    ],
    ids=range(21),
)
def test_a_bad_line_is_reported_and_the_next_is_read(line, message):
    inspection = report(GOOD + line + b"\n" + GOOD)
    assert inspection.rows == 2
    assert [error.line for error in inspection.errors] == [2]
    assert message in inspection.errors[0].msg


def test_brackets_in_a_text_are_not_nesting():
    assert report(b'{"prompt": "' + b"[{" * 500 + b'", "answer": "\\"[[["}').ok


@pytest.mark.parametrize(
    "data",
    [
        GOOD.strip(),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD + b"\n\n  \n\t\n",
        GOOD + b"   ",
    ],
)
def test_one_row(data):
    inspection = report(data)
    assert (inspection.rows, inspection.errors) == (1, [])


def test_blank_lines_count_as_lines_but_not_as_rows(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n" + GOOD + b"\n\n" + GOOD + b"bad\n")
    inspection = inspect(path, "jsonl")
    assert (inspection.rows, [error.line for error in inspection.errors]) == (2, [6])
    path.write_bytes(b"\n" + GOOD + b"\n\n" + GOOD)
    assert [problem.row for problem in read_problems(path, "jsonl")] == [2, 5]


@pytest.mark.parametrize("data", [b"", b"\n", b" \n\n\t", b"\xef\xbb\xbf"])
def test_a_file_without_a_row_is_an_error(data):
    assert report(data).errors == [RowError(0, None, "the file has no row")]


def test_a_line_over_the_limit_is_passed_over_without_being_held():
    long = b'{"prompt": "' + b"x" * 2**24 + b'", "answer": "5"}\n'
    stream = io.BytesIO(GOOD + long + GOOD + long + GOOD)
    tracemalloc.start()
    inspection = inspect(stream, "jsonl", limits=Limits(max_line_bytes=1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert inspection.rows == 3
    assert inspection.errors == [RowError(line, None, "longer than 1,000 bytes") for line in (2, 4)]
    assert peak < 2**22


def test_a_line_at_the_limit_is_read():
    line = GOOD.strip()
    for ending in (b"", b"\n", b"\r\n"):
        assert report(line + ending, max_line_bytes=len(line)).ok
        assert not report(line + ending, max_line_bytes=len(line) - 1).ok
        assert report(b"\xef\xbb\xbf" + line + ending, max_line_bytes=len(line)).ok


def test_too_many_rows_end_the_reading():
    inspection = report(GOOD * 10, max_rows=4)
    assert inspection.rows == 4
    assert inspection.errors == [RowError(5, None, "more than 4 rows; the rest was not read")]
    assert report(GOOD * 4 + b"\n\n", max_rows=4).ok


def test_only_the_first_errors_are_listed_but_all_are_counted():
    inspection = report(b"bad\n" * 2500)
    assert len(inspection.errors) == MAX_LISTED_ERRORS
    assert inspection.errors[-1].line == MAX_LISTED_ERRORS
    assert inspection.error_count == 2500


def test_reading_goes_on_after_a_row(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "answer": n}) + "\n" for n in range(1, 8)))
    assert [problem.row for problem in read_problems(path, "jsonl", after=4)] == [5, 6, 7]
    assert list(read_problems(path, "jsonl", after=7)) == []


def test_reading_stops_at_a_bad_row(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD + b"bad\n" + GOOD)
    rows = read_problems(path, "jsonl")
    assert next(rows).row == 1
    with pytest.raises(DataError, match="line 2: not JSON"):
        next(rows)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_report(data):
    inspection = report(data, max_line_bytes=100)
    assert inspection.rows + inspection.error_count > 0


@given(st.lists(st.one_of(st.just(GOOD), st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"") + b"\n"))))
def test_every_line_is_a_row_an_error_or_blank(lines):
    inspection = report(b"".join(lines), max_line_bytes=1000)
    blank = sum(
        not line.strip().removeprefix(b"\xef\xbb\xbf" if i == 0 else b"").strip() for i, line in enumerate(lines)
    )
    reported = {error.line for error in inspection.errors} - {0}
    assert inspection.rows + len(reported) == len(lines) - blank
