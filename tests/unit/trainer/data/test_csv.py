"""CSV: quoted line breaks, separators, and bad rows reported by the line on which they begin."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.spec.dataset import DataError, Limits, Message, Problem, RowError, inspect, read_problems
from trainer.spec.job import Columns


def report(data: str | bytes, columns=None, **limits):
    data = data.encode() if isinstance(data, str) else data
    return inspect(io.BytesIO(data), "csv", columns or Columns(), limits=Limits(**limits))


@pytest.fixture
def read(tmp_path):
    def read_text(text: str | bytes, columns=None, **options) -> list[Problem]:
        path = tmp_path / "data.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return list(read_problems(path, "csv", columns or Columns(), **options))

    return read_text


@pytest.mark.parametrize(
    "text",
    [
        "prompt,answer\n2+3=,5\n",
        "prompt,answer\n2+3=,5",
        "prompt,answer\r\n2+3=,5\r\n",
        '"prompt","answer"\n"2+3=","5"\n',
        b"\xef\xbb\xbfprompt,answer\n2+3=,5\n",
        "prompt;answer\n2+3=;5\n",
        "prompt\tanswer\n2+3=\t5\n",
        " prompt , answer \n2+3=, 5\n",
        "id,prompt,note,answer\n1,2+3=,,5\n",
        "question,answer\n2+3=,#### 5\n",
        "prompt,answer\n\n2+3=,5\n\n\n",
    ],
)
def test_one_row(read, text):
    assert read(text) == [Problem(1, "2+3=", "5", None)]


def test_quoted_fields_hold_commas_quotes_and_line_breaks(read):
    rows = read('prompt,answer\n"a, ""b""\nc",1\n"d\r\ne",2\n')
    assert [(problem.row, problem.prompt, problem.answer) for problem in rows] == [
        (1, 'a, "b"\nc', "1"),
        (2, "d\r\ne", "2"),
    ]


def test_columns_with_json_in_them(read):
    text = 'messages,reward_model\n"[{""role"": ""user"", ""content"": ""hi""}]","{""ground_truth"": ""5""}"\n'
    assert read(text) == [Problem(1, [Message("user", "hi")], "5", None)]


def test_named_columns(read):
    assert read("q,a\nx,1\n", Columns(prompt="q", answer="a")) == [Problem(1, "x", "1", None)]


def test_bad_rows_are_reported_by_the_line_they_begin_on():
    inspection = report(
        "prompt,answer\n"  # line 1
        '"two\nlines",1\n'  # lines 2 and 3
        "only one field\n"  # 4
        "one,2,three\n"  # 5
        ",6\n"  # 6
        "good,7\n"  # 7
        "no answer,\n"  # 8
        '"bad"quote,9\n'  # 9
        "good,10\n"  # 10
        '"never closed,11\nand on\n'
    )
    assert inspection.rows == 3
    assert [(error.line, error.field, error.msg) for error in inspection.errors] == [
        (4, None, "has 1 fields where the header has 2"),
        (5, None, "has 3 fields where the header has 2"),
        (6, "prompt", "is empty"),
        (8, "answer", "is empty"),
        (9, None, "not CSV: ',' expected after '\"'"),
        (11, None, "not CSV: a quoted field is not closed"),
    ]


def test_bad_bytes_are_reported():
    inspection = report(b"prompt,answer\na,1\n\xff\xfe,2\nb,3\n")
    assert inspection.rows == 2
    assert inspection.errors == [RowError(3, None, "not UTF-8: byte 1 of the line is 0xff")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,b\n", "no column with the prompt; found: 'text', 'label'; understood: prompt, problem"),
        ("prompt,label\na,b\n", "no column with the answer; found: 'prompt', 'label'; understood: answer"),
        ("prompt,answer,answer\na,b,c\n", "column 'answer' is there twice"),
        ("just one line of text\nand another\n", "no column with the prompt"),
    ],
)
def test_a_header_that_will_not_do_is_said_once(text, message):
    inspection = report(text + "x,y\n" * 100)
    assert inspection.error_count == 1
    assert inspection.errors[0].line == 1
    assert message in inspection.errors[0].msg


def test_a_named_column_that_is_not_in_the_header():
    assert "understood: q" in report("prompt,answer\na,b\n", Columns(prompt="q")).errors[0].msg


@pytest.mark.parametrize("text", ["", "\n\n", "prompt,answer\n", "prompt,answer"])
def test_a_file_without_a_row_is_an_error(text):
    assert report(text).errors == [RowError(0, None, "the file has no row")]


def test_limits():
    assert report("prompt,answer\n" + "a" * 200 + ",1\nb,2\n", max_line_bytes=100).errors == [
        RowError(2, None, "longer than 100 bytes")
    ]
    open_quote = report('prompt,answer\n"' + "a\n" * 100 + "b,2\n", max_line_bytes=100)
    assert open_quote.errors[0] == RowError(2, None, "longer than 100 bytes (is a quoted field left open?)")
    assert report("prompt,answer\n" + "a,1\n" * 10, max_rows=4).errors == [
        RowError(6, None, "more than 4 rows; the rest was not read")
    ]
    assert "the limit is 3" in report("prompt,answer,c,d\na,1,2,3\n", max_columns=3).errors[0].msg


def test_a_field_larger_than_pythons_own_limit_is_read(read):
    assert len(read('prompt,answer\n"' + "a" * 300_000 + '",1\n')[0].prompt) == 300_000


def test_reading_goes_on_after_a_row(read):
    text = "prompt,answer\n" + "".join(f'"p\n{n}",{n}\n' for n in range(1, 8))
    assert [problem.row for problem in read(text, after=4)] == [5, 6, 7]


def test_reading_stops_at_a_bad_row(read):
    with pytest.raises(DataError, match="line 3: has 1 fields"):
        read("prompt,answer\na,1\nb\n")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_report(data):
    inspection = report(b"prompt,answer\n" + data, max_line_bytes=100)
    assert inspection.rows + inspection.error_count > 0


def test_json_text_gives_options_and_metadata(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(
        'prompt,answer,kind,options,metadata\n1+1=,2,numeric,"{""tolerance"": 0.5}","{""n"": [1, 2]}"\na,b,,,\n'
    )
    first, second = read_problems(path, "csv")
    assert (first.kind, first.options, first.metadata) == ("numeric", {"tolerance": 0.5}, {"n": [1, 2]})
    assert (second.kind, second.options, second.metadata) == (None, None, None)


def test_wrong_options_are_reported_with_their_line(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('prompt,answer,options\n1+1=,2,\n1+1=,2,"{""tolerence"": 0.5}"\n')
    [error] = inspect(path, "csv").errors
    assert (error.line, error.field) == (3, "options")
