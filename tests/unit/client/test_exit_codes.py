"""How commands end: the number for scripts, the words for people, stdout for the answer alone."""

import re
from pathlib import Path

import pytest

from client import AsymError, NoCredentials, Unreachable
from client.cli import exit_codes, main
from client.cli.exit_codes import code_of, next_step
from client.front import free_port
from tests.unit.client.conftest import Server
from tests.unit.client.walk import SERVERS, commands

JOB = {
    "id": "job_1", "name": "sums", "status": "running", "attempt": 1, "queue": None, "failure": None, "tags": [],
    "accuracy": 0.5, "created_at": "2026-11-24T03:00:00Z", "spec": {"eval": []},
    "progress": {"step": 1, "steps": 2, "eta_seconds": None, "seconds_per_step": None},
}  # fmt: skip


@pytest.fixture(autouse=True)
def api(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASYM_API_URL", server.url)
    monkeypatch.setenv("ASYM_API_KEY", "asym_x")
    monkeypatch.setattr("client.retries.FIRST_PAUSE", 0.0)
    monkeypatch.setattr("client.progress.POLL_SECONDS", 0.0)


def exit_code(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_every_command_has_json() -> None:
    found = commands()
    assert len(found) > 40
    without = {words for words, command in found.items() if "--json" not in {o for p in command.params for o in p.opts}}
    assert without == SERVERS


@pytest.mark.parametrize(
    ("status", "code", "next_words"),
    [
        (400, 2, None),
        (401, 4, "asym keys create"),
        (403, 4, "another role"),
        (404, 4, "asym jobs"),
        (409, 5, None),
        (412, 5, None),
        (422, 2, None),
        (429, 5, None),
        (500, 1, None),
        (503, 1, None),
    ],
)
def test_a_refusal_has_a_code_and_a_next_step(
    server: Server, capsys: pytest.CaptureFixture[str], status: int, code: int, next_words: str | None
) -> None:
    for _ in range(5):
        server.answer(status, {"title": "Refused", "detail": "for a reason"})
    assert exit_code("cancel", "job_1", "--json") == code
    said = capsys.readouterr()
    assert said.out == ""
    assert f"asym: Refused ({status}): for a reason\n" in said.err
    lines = [line for line in said.err.splitlines() if line.startswith("next: ")]
    assert len(lines) == (0 if next_words is None else 1)
    assert next_words is None or next_words in lines[0]


def test_too_many_requests_say_when_to_try_again(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer(429, {"title": "Too Many Requests"}, Retry_After="90")
    assert exit_code("jobs") == 5
    assert "next: try again in 90 s" in capsys.readouterr().err


def test_nobody_listening_names_asym_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ASYM_API_URL", f"http://127.0.0.1:{free_port()}")
    assert exit_code("jobs", "--json") == 3
    said = capsys.readouterr()
    assert (said.out, "`asym up` starts it" in said.err) == ("", True)


@pytest.mark.parametrize(("end", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_watching_ends_as_the_job_does(server: Server, capsys: pytest.CaptureFixture[str], end: str, code: int) -> None:
    server.answer(200, JOB)
    server.answer(200, {"keys": {"group/accuracy": {"step": [1], "value": [0.5]}}})
    server.answer(200, {**JOB, "status": end})
    server.answer(200, {"keys": {}})
    assert exit_code("watch", "job_1") == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "step 1/2" in said.err


def test_several_jobs_are_watched_and_one_that_fails_is_told(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = {"kind": "user", "code": "nan", "message": "the loss is NaN", "evidence": ["step 2: NaN"]}
    other = {**JOB, "id": "job_2"}
    curves = {
        "jobs": {each: {"keys": {"group/accuracy": {"step": [1], "value": [0.5]}}} for each in ("job_1", "job_2")}
    }
    server.answer(200, {"data": [other, JOB], "has_more": False})
    server.answer(200, curves)
    for _ in range(5):  # the API is started again
        server.answer(503, {"title": "Service Unavailable"})
    ended = [{**other, "status": "failed", "failure": failure}, {**JOB, "status": "succeeded"}]
    server.answer(200, {"data": ended, "has_more": False})
    server.answer(200, curves)
    assert exit_code("watch", "job_1", "job_2", "job_1") == 1
    said = capsys.readouterr().err
    for words in (
        "job_1  running    step 1/2  accuracy 0.500",
        "job_2  running    step 1/2  accuracy 0.500",
        "Service Unavailable; trying again",
        "job_1  succeeded",
        "job_2 failed (user): the loss is NaN",
        "  step 2: NaN",
        "asym logs job_2",
        "next: asym retry job_2",
    ):
        assert words in said
    asked = [path for _, path, _, _ in server.requests if path.startswith("/jobs?")]
    assert all("id=job_1&id=job_2" in path for path in asked)


def test_a_watch_that_is_interrupted_is_130_and_says_how_to_go_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.progress.time.sleep", interrupt)
    server.answer(200, JOB)
    server.answer(200, {"keys": {}})
    assert exit_code("watch", "job_1") == 130
    assert "next: asym watch job_1" in capsys.readouterr().err


def test_the_page_of_the_docs_has_every_code() -> None:
    table = re.findall(r"^\| `(\d+)` \|", (Path(__file__).parents[3] / "docs" / "sdk.md").read_text(), re.MULTILINE)
    constants = [value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)]
    assert [int(code) for code in table] == constants


def test_codes_of_what_never_reached_the_api() -> None:
    assert code_of(Unreachable("x")) == code_of(NoCredentials("x")) == 3
    assert code_of(AsymError("no checkpoint")) == 1
    assert next_step(NoCredentials("x")) is None
