"""Retries, problems and the event stream, against a real HTTP server that answers as it is told."""

import asyncio
import io
from io import BytesIO
from pathlib import Path

import pytest

from client import Asym, AsymError, AsyncAsym, Unreachable, progress
from client.front import free_port
from client.retries import pause_before
from tests.unit.client.conftest import AsyncHeldClock, HeldClock, Server

JOB = {"id": "job_1", "status": "running"}


def test_the_key_goes_with_every_request(server: Server, asym: Asym) -> None:
    server.answer(200, JOB)
    assert asym.job("job_1") == JOB
    assert server.requests[0][2]["Authorization"] == "Bearer asym_secret"


@pytest.mark.parametrize("passing", [0, 429, 502, 503, 504])
def test_a_passing_failure_of_a_get_is_tried_again(server: Server, asym: Asym, passing: int) -> None:
    server.answer(passing)
    server.answer(passing)
    server.answer(200, JOB)
    assert asym.job("job_1") == JOB
    assert len(server.requests) == 3


def test_a_failure_that_stays_is_told_after_the_last_retry(server: Server, asym: Asym) -> None:
    for _ in range(4):
        server.answer(503, {"title": "Service Unavailable", "detail": "the database does not answer"})
    with pytest.raises(AsymError, match="the database does not answer") as raised:
        asym.job("job_1")
    assert raised.value.status == 503
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_a_refusal_is_not_tried_again(server: Server, asym: Asym, status: int) -> None:
    server.answer(status, {"title": "No", "errors": [{"loc": ["path", "id"], "msg": "nope"}]})
    with pytest.raises(AsymError, match="nope") as raised:
        asym.job("job_1")
    assert raised.value.status == status
    assert len(server.requests) == 1


def test_a_created_job_is_tried_again_under_one_idempotency_key(server: Server, asym: Asym) -> None:
    server.answer(0)
    server.answer(503)
    server.answer(201, JOB)
    assert asym.create_job({"name": "x"}) == JOB
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in server.requests}
    assert len(keys) == 1
    assert len(server.requests) == 3
    server.answer(201, JOB)
    asym.create_job({"name": "x"})
    assert server.requests[-1][2]["Idempotency-Key"] not in keys


def test_what_may_not_be_repeated_is_not(server: Server, asym: Asym) -> None:
    server.answer(503, {"title": "Service Unavailable"})
    with pytest.raises(AsymError):
        asym.create_key("x")
    server.answer(0)
    with pytest.raises(Unreachable):
        asym.create_key("x")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        ("7", 7.0),
        ("Tue, 24 Nov 2026 03:00:12 GMT", 12.0),
        ("Tuesday, 24-Nov-26 03:00:12 GMT", 12.0),  # as RFC 850 had it
        ("Tue Nov 24 03:00:12 2026", 12.0),  # and asctime
    ],
)
def test_retry_after_is_heeded_in_seconds_and_as_a_date(
    server: Server, asym: Asym, clock: HeldClock, asked: str, pause: float
) -> None:
    server.answer(429, None, Retry_After=asked)
    server.answer(200, JOB)
    asym.job("job_1")
    assert clock.slept == [pause]


@pytest.mark.parametrize("asked", ["0", "Tue, 24 Nov 2026 02:00:00 GMT", "soon", "-5", ""])
def test_a_retry_after_of_the_past_or_of_no_sense_leaves_our_own_pause(
    server: Server, asym: Asym, clock: HeldClock, asked: str
) -> None:
    server.answer(503, None, Retry_After=asked)
    server.answer(200, JOB)
    asym.job("job_1")
    assert len(clock.slept) == 1
    assert 0.18 < clock.slept[0] < 0.32


def test_a_server_that_wants_to_be_left_alone_for_long_is(server: Server, asym: Asym, clock: HeldClock) -> None:
    server.answer(429, {"title": "Too Many Requests"}, Retry_After="3600")
    with pytest.raises(AsymError, match="Too Many Requests") as told:
        asym.job("job_1")
    assert told.value.retry_after == 3600.0
    assert (len(server.requests), clock.slept) == (1, [])


def test_pauses_double_with_jitter_up_to_a_limit(server: Server, clock: HeldClock) -> None:
    for _ in range(9):
        server.answer(502)
    with Asym(server.url, "asym_secret", retries=8, clock=clock) as asym, pytest.raises(AsymError):
        asym.job("job_1")
    assert len(server.requests) == 9
    doubled = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert [0.75 <= slept / pause <= 1.25 for slept, pause in zip(clock.slept, doubled, strict=True)] == [True] * 8
    assert len({pause_before(0, 1, None) for _ in range(5)}) > 1


def test_a_connection_that_cannot_be_made_is_tried_again_whatever_was_asked(clock: HeldClock) -> None:
    with (
        Asym(f"http://127.0.0.1:{free_port()}", "asym_x", retries=3, clock=clock) as asym,
        pytest.raises(Unreachable, match="asym up"),
    ):
        asym.create_key("x")
    assert len(clock.slept) == 3


def test_what_was_refused_for_now_is_tried_again_whatever_was_asked(
    server: Server, asym: Asym, clock: HeldClock
) -> None:
    server.answer(429, None, Retry_After="2")
    server.answer(201, {"id": "key_1"})
    assert asym.create_key("x") == {"id": "key_1"}
    assert clock.slept == [2.0]


def test_the_asynchronous_one_does_the_same(server: Server) -> None:
    clock = AsyncHeldClock()

    async def ask() -> None:
        async with AsyncAsym(server.url, "asym_secret", retries=3, clock=clock) as asym:
            server.answer(0)
            server.answer(429, None, Retry_After="Tue, 24 Nov 2026 03:00:20 GMT")
            server.answer(200, JOB)
            assert await asym.job("job_1") == JOB
            server.answer(200, {"data": [{"id": "job_3"}, {"id": "job_2"}], "has_more": True, "next": "job_2"})
            server.answer(200, {"data": [{"id": "job_1"}], "has_more": False, "next": None})
            assert [job["id"] async for job in asym.jobs()] == ["job_3", "job_2", "job_1"]
            server.answer(503, {"title": "Service Unavailable"})
            with pytest.raises(AsymError, match="Service Unavailable"):
                await asym.create_key("x")
            server.answer(200, sse(1), **STREAM)
            server.answer(200, sse(2) + END, **STREAM)
            assert [event["id"] async for event in asym.stream_events("job_1")] == [1, 2]

    asyncio.run(ask())
    assert 0.18 < clock.slept[0] < 0.32
    assert clock.slept[1] == pytest.approx(20.0 - clock.slept[0])
    assert server.requests[0][2]["Authorization"] == "Bearer asym_secret"


def test_nobody_listening_is_unreachable_and_says_what_to_do() -> None:
    with Asym(f"http://127.0.0.1:{free_port()}", "asym_x", retries=0) as asym:
        assert not asym.ready()
        with pytest.raises(Unreachable, match="asym up"):
            asym.job("job_1")


def test_a_proxy_s_page_is_shown_as_what_it_is(server: Server, asym: Asym) -> None:
    server.answer(404, "<h1>nginx</h1>")
    with pytest.raises(AsymError, match="nginx") as raised:
        asym.job("job_1")
    assert raised.value.status == 404


def test_lists_are_read_page_by_page(server: Server, asym: Asym) -> None:
    server.answer(200, {"data": [{"id": "job_3"}, {"id": "job_2"}], "has_more": True, "next": "job_2"})
    server.answer(200, {"data": [{"id": "job_1"}], "has_more": False, "next": None})
    assert [job["id"] for job in asym.jobs(status="running")] == ["job_3", "job_2", "job_1"]
    assert "after=job_2" in server.requests[1][1]
    assert all("status=running" in path for _, path, _, _ in server.requests)


def test_a_limit_ends_a_list_within_a_page(server: Server, asym: Asym) -> None:
    server.answer(200, {"data": [{"id": "job_3"}, {"id": "job_2"}], "has_more": True, "next": "job_2"})
    assert [job["id"] for job in asym.jobs(limit=2)] == ["job_3", "job_2"]
    assert "limit=2" in server.requests[0][1]
    assert len(server.requests) == 1


def test_an_upload_sends_name_and_file(server: Server, asym: Asym) -> None:
    server.answer(201, {"id": "ds_1"})
    asym.upload_dataset(BytesIO(b'{"prompt": "1+1=", "answer": "2"}\n'), name="sums", filename="sums.jsonl")
    body = server.requests[0][3]
    assert b'name="file"; filename="sums.jsonl"' in body
    assert b'name="name"' in body
    assert b'{"prompt": "1+1=", "answer": "2"}' in body


@pytest.mark.parametrize("as_path", [True, False])
def test_an_upload_tells_how_far_it_is(server: Server, asym: Asym, tmp_path: Path, as_path: bool) -> None:
    content = b"x" * 200_000
    path = tmp_path / "sums.jsonl"
    path.write_bytes(content)
    told: list[tuple[int, int | None]] = []
    server.answer(201, {"id": "ds_1"})
    asym.upload_dataset(path if as_path else BytesIO(content), progress=lambda *now: told.append(now))
    assert told[-1] == (200_000, 200_000)
    assert len(told) > 2
    assert [sent for sent, _ in told] == sorted({sent for sent, _ in told})
    assert content in server.requests[0][3]


def test_a_pipe_is_uploaded_without_a_size_and_never_twice(server: Server, asym: Asym) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.left = [b"{}\n", b"{}\n"]

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self.left.pop(0) if self.left else b""

    told: list[tuple[int, int | None]] = []
    server.answer(201, {"id": "ds_1"})
    asym.upload_dataset(Pipe(), progress=lambda *now: told.append(now))  # type: ignore[arg-type]
    assert told == [(3, None), (6, None)]
    assert b"{}\n{}\n" in server.requests[0][3]
    server.answer(429, {"title": "Too Many Requests"})
    with pytest.raises(AsymError, match="Too Many Requests"):
        asym.upload_dataset(Pipe())  # type: ignore[arg-type]


def test_an_upload_that_was_not_taken_is_sent_again_whole(server: Server, asym: Asym) -> None:
    told: list[tuple[int, int | None]] = []
    server.answer(429, None, Retry_After="1")
    server.answer(201, {"id": "ds_1"})
    asym.upload_dataset(BytesIO(b"one\ntwo\n"), progress=lambda *now: told.append(now))
    assert told == [(8, 8), (8, 8)]
    assert b"one\ntwo\n" in server.requests[1][3]
    server.answer(503, {"title": "Service Unavailable"})  # it may have been taken
    with pytest.raises(AsymError):
        asym.upload_dataset(BytesIO(b"one\n"))
    assert len(server.requests) == 3


STREAM = {"Content_Type": "text/event-stream"}
END = 'event: end\ndata: {"status":"succeeded"}\n\n'


def sse(*numbers: int) -> str:
    return ": keep-alive\n\n" + "".join(
        f'id: {number}\nevent: step\ndata: {{"id": {number}, "type": "step"}}\n\n' for number in numbers
    )


def test_a_stream_goes_on_where_it_broke_off_and_ends_with_the_job(server: Server, asym: Asym) -> None:
    server.answer(200, sse(1, 2), **STREAM)  # ends early: the API was restarted
    server.answer(0)
    server.answer(503)
    server.answer(200, sse(3), **STREAM)
    server.answer(200, sse(4, 5) + END, **STREAM)
    assert [each["id"] for each in asym.stream_events("job_1")] == [1, 2, 3, 4, 5]
    assert [headers["Last-Event-ID"] for _, _, headers, _ in server.requests] == ["0", "2", "2", "2", "3"]


def test_a_keep_alive_behind_an_event_is_no_event(server: Server, asym: Asym) -> None:
    server.answer(200, sse(1) + ": keep-alive\n\n" + sse(2) + END, **STREAM)
    assert [each["id"] for each in asym.stream_events("job_1")] == [1, 2]


def test_a_stream_that_stays_away_for_a_minute_is_given_up(server: Server, asym: Asym, clock: HeldClock) -> None:
    for _ in range(100):
        server.answer(503, {"title": "Service Unavailable"})
    with pytest.raises(AsymError, match="Service Unavailable"):
        list(asym.stream_events("job_1"))
    assert 60 < sum(clock.slept) < 62


def test_a_stream_of_a_job_that_is_not_there_is_an_error(server: Server, asym: Asym) -> None:
    server.answer(404, {"title": "Not Found", "detail": "no such job: job_1"})
    with pytest.raises(AsymError, match="no such job"):
        next(asym.stream_events("job_1"))


def test_waiting_ends_with_the_job(server: Server, asym: Asym, clock: HeldClock) -> None:
    for status in ("queued", "running", "failed"):
        server.answer(200, {**JOB, "status": status})
    assert asym.wait("job_1")["status"] == "failed"
    assert clock.slept == [0.5, 0.6]


def test_waiting_gives_up_at_its_timeout(server: Server, asym: Asym, clock: HeldClock) -> None:
    for _ in range(20):
        server.answer(200, JOB)
    with pytest.raises(TimeoutError, match="still running"):
        asym.wait("job_1", timeout=10.0)
    assert 5 < sum(clock.slept) <= 10.0


def test_waiting_outlasts_an_outage_of_a_minute_and_no_more(server: Server, asym: Asym, clock: HeldClock) -> None:
    server.answer(200, JOB)
    for _ in range(8):  # two tries, each with its retries
        server.answer(503, {"title": "Service Unavailable"})
    server.answer(200, {**JOB, "status": "succeeded"})
    assert asym.wait("job_1")["status"] == "succeeded"
    before = sum(clock.slept)
    for _ in range(200):
        server.answer(503, {"title": "Service Unavailable"})
    with pytest.raises(AsymError, match="Service Unavailable"):
        asym.wait("job_1")
    assert 60 < sum(clock.slept) - before < 75


def test_following_a_job_outlasts_an_outage(server: Server, asym: Asym, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.001)
    job = {**JOB, "progress": {"step": 1, "steps": 2, "eta_seconds": None}, "queue": None, "spec": {"eval": []}}
    server.answer(200, job)
    server.answer(200, {"keys": {}})
    for _ in range(4):  # the first try and its retries
        server.answer(503, {"title": "Service Unavailable"})
    server.answer(200, {**job, "status": "succeeded"})
    server.answer(200, {"keys": {}})
    seen = [(standing.job["status"], standing.note) for standing in progress.follow(asym, "job_1")]
    assert seen[1] == ("running", "Service Unavailable; trying again")
    assert seen[2] == ("succeeded", "")


def test_following_a_job_that_is_gone_is_an_error(server: Server, asym: Asym) -> None:
    server.answer(404, {"title": "Not Found"})
    with pytest.raises(AsymError, match="Not Found"):
        list(progress.follow(asym, "job_1"))
