"""Sampling from Python and from the command line, against a server that answers as it is told."""

import json

import pytest
from typer.testing import CliRunner

from client import Asym, AsymError
from client.cli import app

CHOICES = [
    {"index": 0, "message": {"content": "46"}, "finish_reason": "stop", "asym": {"reward": 1.0, "error": None}},
    {"index": 1, "message": {"content": "x"}, "finish_reason": "stop", "asym": {"reward": None, "error": "no number"}},
]


@pytest.fixture
def run(server, monkeypatch):
    monkeypatch.setenv("ASYM_API_URL", server.url)
    monkeypatch.setenv("ASYM_API_KEY", "asym_x")
    return lambda *arguments: CliRunner().invoke(app, ["sample", *arguments])


def sent(server):
    method, path, _, body = server.requests[-1]
    return method, path, json.loads(body)


def test_a_job_stands_for_its_newest_checkpoint_that_is_there(server, run):
    kept, gone = {"deleted_at": None, "superseded_at": None}, {"deleted_at": "t", "superseded_at": None}
    page = [{"step": 20, **kept}, {"step": 40, **kept}, {"step": 60, **gone}]
    server.answer(200, {"data": page, "has_more": False})
    server.answer(200, {"choices": CHOICES})
    done = run("job_1", "12+34=", "-n", "2", "--seed", "3", "--verify", "exact", "--answer", "46")
    assert done.exit_code == 0, done.output
    assert done.stdout == "46\nx\n"
    assert "1: reward 1" in done.stderr
    assert "2: cannot be judged: no number" in done.stderr
    assert sent(server) == (
        "POST",
        "/v1/chat/completions",
        {
            "model": "job/job_1@40",
            "messages": [{"role": "user", "content": "12+34="}],
            "n": 2,
            "seed": 3,
            "asym": {"verify": {"kind": "exact", "answer": "46"}},
        },
    )


def test_a_text_is_gone_on_with(server, run):
    server.answer(200, {"choices": [{"index": 0, "text": " there", "finish_reason": "stop"}]})
    done = run("builtin/tiny-arith", "hello", "--text", "--stop", "x", "--temperature", "0")
    assert (done.exit_code, done.stdout, done.stderr) == (0, " there\n", "")
    assert sent(server)[1:] == (
        "/v1/completions",
        {"model": "builtin/tiny-arith", "prompt": "hello", "n": 1, "temperature": 0.0, "stop": ["x"]},
    )
    server.answer(200, {"choices": CHOICES})
    assert json.loads(run("builtin/tiny-arith", "hello", "--json").stdout) == {"choices": CHOICES}


@pytest.mark.parametrize("given", [("--verify", "exact"), ("--answer", "1"), ("--text", "--system", "s")])
def test_what_does_not_go_together_is_wrong_usage(server, run, given):
    assert run("builtin/tiny-arith", "hello", *given).exit_code == 2
    assert server.requests == []


def test_a_refusal_in_openais_shape_is_told_like_any_other(server):
    message = "temperature: Input should be less than or equal to 2"
    error = {"message": message, "type": "invalid_request_error", "param": "temperature", "code": "invalid"}
    server.answer(400, {"error": error})
    with Asym(server.url, "asym_x") as asym, pytest.raises(AsymError) as refused:
        asym.chat("builtin/tiny-arith", [{"role": "user", "content": "1"}], temperature=3)
    assert (refused.value.status, refused.value.detail) == (400, message)
    assert str(refused.value) == f"Bad Request (400): {message}"
