"""Formats told apart, final answers found, prompts that tiny-arith cannot read, and what the package imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.spec.dataset import (
    Message,
    Problem,
    apply_template,
    detect_format,
    last_user_text,
    tiny_arith_offenders,
)
from trainer.spec.dataset.final_answer import after_hashes, last_boxed, stated_answer, worked_answer


@pytest.mark.parametrize(
    ("filename", "head", "format"),
    [
        ("a.jsonl", b'{"a": 1}', "jsonl"),
        ("a.JSONL", b"", "jsonl"),
        ("a.ndjson", b'{"a": 1}', "jsonl"),
        ("a.json", b'{"a": 1}\n{"a": 2}', "jsonl"),
        ("a.csv", b"a,b\n", "csv"),
        ("a.tsv", b"a\tb\n", "csv"),
        ("a.parquet", b"PAR1\x15", "parquet"),
        ("a.jsonl", b"PAR1\x15", "parquet"),
        ("upload", b'\xef\xbb\xbf {"a": 1}', "jsonl"),
        ("upload.txt", b"a,b\n1,2\n", "csv"),
        ("upload", b"PAR1\x15", "parquet"),
    ],
)
def test_formats(filename, head, format):
    assert detect_format(filename, head) == format


@pytest.mark.parametrize(
    ("filename", "head", "message"),
    [
        ("a.parquet", b'{"a": 1}', "is not a Parquet file"),
        ("a.jsonl", b"\x1f\x8b\x08", "is compressed"),
        ("a.zip", b"PK\x03\x04", "is compressed"),
        ("a.json", b'[\n{"a": 1}]', "is one JSON list; JSONL has one object on each line"),
        ("a.txt", b"hello", "is none of: JSONL"),
        ("a", b"", "is none of: JSONL"),
    ],
)
def test_formats_that_are_not_taken(filename, head, message):
    with pytest.raises(ValueError, match=message):
        detect_format(filename, head)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("no box", None),
        (r"\boxed{5}", "5"),
        (r"$\boxed{1}$ and $\boxed{2}$", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed 5", "5"),
        (r"\boxed5$", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{5}", "5"),
        (r"\fbox{6} \boxed{5}", "5"),
        (r"\boxed{5", ""),
        (r"\boxed{", ""),
        (r"\boxed", ""),
        (r"\boxed{}", ""),
        (r"\boxed{1} \boxed{2", ""),
        (r"\boxedset{5}", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a\n#### 72", "72"),
        ("a\n#### 72\n\n", "72"),
        ("a\n#### 1,234,567", "1234567"),
        ("a\n#### -1,000.50", "-1000.50"),
        ("a\n####72", "72"),
        ("a\n#### x, y", "x, y"),
        ("a\n####", ""),
        ("#### Step 1\nso 5", None),
        ("72", None),
        ("a #### 72", None),
        ("##### 72", None),
    ],
)
def test_after_hashes(text, answer):
    assert after_hashes(text) == answer


@pytest.mark.parametrize(
    ("text", "stated", "worked"),
    [
        (" 5 ", "5", "5"),
        (r"$\boxed{5}$.", "5", "5"),
        (r"\boxed{\boxed{5}}", "5", "5"),
        (r"so \boxed{5}", r"so \boxed{5}", "5"),
        (r"\boxed{1}+\boxed{2}", r"\boxed{1}+\boxed{2}", "2"),
        ("a\n#### 5", "5", "5"),
        (r"so \boxed{5", r"so \boxed{5", r"so \boxed{5"),
        (r"\boxed{}", r"\boxed{}", r"\boxed{}"),
    ],
)
def test_stated_and_worked_answers(text, stated, worked):
    assert stated_answer(text) == stated
    assert worked_answer(text) == worked


def test_the_last_user_text():
    chat = [Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert last_user_text(chat) == "c"
    assert last_user_text("plain") == "plain"


def test_templates_keep_other_braces():
    assert apply_template(r"\boxed{} {prompt} {x} {prompt}", "{1}") == r"\boxed{} {1} {x} {1}"
    assert apply_template(None, "{prompt}") == "{prompt}"


def test_tiny_arith_offenders():
    problems = [
        Problem(1, "12+34=", "46"),
        Problem(3, "12 + 34 =", "46"),
        Problem(4, "12/34=", "0"),
        Problem(5, [Message("system", "add!"), Message("user", "1*2-3=")], "-1"),
        Problem(9, [Message("user", "What is 1+2?")], "3"),
        Problem(10, "1+2=\n", "3"),
    ]
    assert tiny_arith_offenders(problems) == [4, 9, 10]
    assert tiny_arith_offenders(problems, limit=2) == [4, 9]
    assert tiny_arith_offenders(problems, "{prompt} ") == [4, 9, 10]
    assert tiny_arith_offenders(problems, "Q: {prompt}") == [1, 3, 4, 5, 9, 10]
    assert tiny_arith_offenders([]) == []


def test_reading_jsonl_imports_neither_torch_nor_pyarrow():
    program = (
        "import sys, io, trainer.spec.dataset as d\n"
        'assert d.inspect(io.BytesIO(b\'{"prompt": "1+1=", "answer": 2}\'), "jsonl").ok\n'
        "print([name for name in ('torch', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    root = Path(__file__).parents[4]
    shown = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
