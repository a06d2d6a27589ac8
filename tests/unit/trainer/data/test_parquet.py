"""Parquet: verl's layout, only the columns that matter, and files that are broken, too large or lying."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.spec.dataset import DataError, Limits, Message, Problem, RowError, inspect, read_problems


def parquet(columns: dict, **options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def report(data: bytes, **limits):
    return inspect(io.BytesIO(data), "parquet", limits=Limits(**limits))


def verl(rows: int) -> dict:
    return {
        "data_source": ["test/numbers"] * rows,
        "prompt": [[{"content": f"What is {n}+1?", "role": "user"}] for n in range(rows)],
        "ability": ["math"] * rows,
        "reward_model": [
            {"ground_truth": {"question": "q", "target": str(n + 1)}, "style": "rule"} for n in range(rows)
        ],
        "extra_info": [{"index": n, "split": "train"} for n in range(rows)],
    }


def test_verl(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(parquet(verl(300), row_group_size=70))
    inspection = inspect(path, "parquet")
    assert (inspection.rows, inspection.errors) == (300, [])
    assert inspection.sources == {"prompt": {"prompt": 300}, "answer": {"reward_model.ground_truth": 300}}
    problems = list(read_problems(path, "parquet"))
    assert [problem.row for problem in problems] == list(range(1, 301))
    assert problems[299] == Problem(300, [Message("user", "What is 299+1?")], "300", None)
    for after in (0, 1, 69, 70, 71, 250, 300):
        assert list(read_problems(path, "parquet", after=after)) == problems[after:]


def test_plain_columns_and_numbers():
    assert report(parquet({"question": ["a", "b"], "answer": [1, 2]})).ok
    assert report(parquet({"prompt": ["a", "b"], "answer": [1.0, 2.5]})).ok


def test_pandas_numbers_with_gaps(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(parquet({"prompt": ["a", "b"], "answer": pa.array([42.0, None])}))
    inspection = inspect(path, "parquet")
    assert (inspection.rows, inspection.errors) == (1, [])
    assert inspection.unanswered == [RowError(2, "answer", "missing: it is null")]
    assert inspect(path, "parquet", skip_unanswered=False).errors == inspection.unanswered
    passed_over: list[int] = []
    assert [problem.answer for problem in read_problems(path, "parquet", unanswered=passed_over)] == ["42"]
    assert passed_over == [2]


def test_bad_rows_are_reported():
    data = verl(10)
    data["prompt"][2] = []
    data["reward_model"][6] = {"ground_truth": {"question": "q", "target": ""}, "style": "rule"}
    data["prompt"][8] = None
    inspection = report(parquet(data))
    assert [(error.line, error.field) for error in inspection.errors] == [(3, "prompt"), (9, "prompt")]
    assert [(row.line, row.field) for row in inspection.unanswered] == [(7, "reward_model.ground_truth")]


def test_text_that_is_not_utf8_is_reported():
    text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    inspection = report(parquet({"prompt": text, "answer": ["1", "2", "3"]}))
    assert inspection.rows == 2
    assert [error.line for error in inspection.errors] == [2]
    assert "not UTF-8" in inspection.errors[0].msg


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "label": ["b"]}, "no column with the prompt; found: 'text', 'label'; understood: prompt"),
        ({"prompt": ["a"], "label": ["b"]}, "no column with the answer; found: 'prompt', 'label'; understood: answer"),
    ],
)
def test_columns_that_will_not_do_are_said_once(columns, message):
    inspection = report(parquet(columns))
    assert inspection.error_count == 1
    assert inspection.errors[0].line == 0
    assert message in inspection.errors[0].msg


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 100, b"not Parquet"])
def test_what_is_no_parquet_is_reported(data):
    inspection = report(data)
    assert (inspection.rows, inspection.error_count, inspection.errors[0].line) == (0, 1, 0)
    assert "not a Parquet file" in inspection.errors[0].msg


def test_a_broken_page_is_reported_where_it_begins():
    data = bytearray(parquet(verl(400), row_group_size=100, compression="none", use_dictionary=False))
    position = data.index(b"What is 250+1?")
    data[position - 200 : position + 200] = b"\xff" * 400
    inspection = report(bytes(data))
    assert not inspection.ok
    assert inspection.rows < 400


def test_a_truncated_file_is_reported():
    assert not report(parquet(verl(300))[:-100]).ok


def test_a_file_without_a_row_is_an_error():
    empty = parquet({"prompt": pa.array([], pa.string()), "answer": pa.array([], pa.string())})
    assert report(empty).errors == [RowError(0, None, "the file has no row")]


def test_limits():
    data = parquet({"prompt": ["a" * 2**20] * 8, "answer": ["1"] * 8}, use_dictionary=False)
    assert report(data, max_rows=7).errors == [RowError(0, None, "8 rows; the limit is 7")]
    assert "MiB decompressed in one row group; the limit is 2" in report(data, max_row_group_bytes=2**21).errors[0].msg
    assert "MiB decompressed; the limit is 2" in report(data, max_decompressed_bytes=2**21).errors[0].msg
    assert report(data, max_columns=1).errors == [RowError(0, None, "2 columns; the limit is 1")]
    assert [error.line for error in report(data, max_line_bytes=2**19).errors] == list(range(1, 9))


def test_reading_stops_at_a_bad_row(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(parquet({"prompt": ["a", ""], "answer": ["1", "2"]}))
    with pytest.raises(DataError, match="line 2: prompt: is empty"):
        list(read_problems(path, "parquet"))


def test_objects_and_json_text_give_options_and_metadata(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(
        parquet(
            {
                "prompt": ["1+1=", "1+2="],
                "answer": ["2", "3"],
                "kind": ["numeric", "exact"],
                # One struct type for all rows: a row has every key, null where it gave none.
                "options": [{"tolerance": 0.5, "ignore_case": None}, {"tolerance": None, "ignore_case": True}],
                "metadata": ['{"cells": [[1, 2.5]]}', None],
            }
        )
    )
    problems = list(read_problems(path, "parquet"))
    assert [problem.options for problem in problems] == [{"tolerance": 0.5}, {"ignore_case": True}]
    assert [problem.metadata for problem in problems] == [{"cells": [[1, 2.5]]}, None]
