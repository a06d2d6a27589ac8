"""Retries, problems and the event stream, against a real HTTP server that answers as it is told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pytest

from client import Asym, AsymError, Unreachable, progress, transport
from client.front import free_port

JOB = {"id": "job_1", "status": "running"}


class Server(ThreadingHTTPServer):
    """Plays a script: one answer per request, in order; remembers the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        self.script.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, content))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def respond(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        status, headers, content = self.server.script.pop(0)
        if status == 0:  # hang up without an answer
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = respond  # noqa: N815 (the names are http.server's)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def asym(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asym]:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr("client.event_stream.RECONNECT_SECONDS", 0.001)
    with Asym(server.url, "asym_secret", retries=3) as asym:
        yield asym


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


def test_retry_after_is_heeded(server: Server, asym: Asym, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", slept.append)
    server.answer(429, None, Retry_After="7")
    server.answer(200, JOB)
    asym.job("job_1")
    assert slept == [7.0]


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


def test_a_stream_that_stays_away_is_given_up(server: Server, asym: Asym, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.event_stream.PATIENCE_SECONDS", 0.0)
    for _ in range(10):
        server.answer(503, {"title": "Service Unavailable"})
    with pytest.raises(AsymError, match="Service Unavailable"):
        list(asym.stream_events("job_1"))


def test_a_stream_of_a_job_that_is_not_there_is_an_error(server: Server, asym: Asym) -> None:
    server.answer(404, {"title": "Not Found", "detail": "no such job: job_1"})
    with pytest.raises(AsymError, match="no such job"):
        next(asym.stream_events("job_1"))


def test_waiting_ends_with_the_job(server: Server, asym: Asym, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.sdk.time.sleep", lambda _: None)
    for status in ("queued", "running", "failed"):
        server.answer(200, {**JOB, "status": status})
    assert asym.wait("job_1")["status"] == "failed"


def test_waiting_gives_up_at_its_timeout(server: Server, asym: Asym) -> None:
    server.answer(200, JOB)
    with pytest.raises(TimeoutError, match="still running"):
        asym.wait("job_1", timeout=0.1)


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
