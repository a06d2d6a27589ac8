"""A job's events: polled, and streamed from a real server."""

import json
import re
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from httpx_sse import EventSource

from store.status import JobStatus


@pytest.fixture
def url(start_server):
    return start_server()


@pytest.fixture
def read_stream(url):
    """read_stream(caller, job_id, last=None): a thread that collects what is streamed; .events, .ended."""

    class Reader(threading.Thread):
        def __init__(self, caller, job_id, last=None):
            super().__init__(daemon=True)
            self.events, self.end, self.headers, self.error = [], None, None, None
            self._path = f"{url}/jobs/{job_id}/events"
            self._headers = {"Authorization": f"Bearer {caller.key.plain}", "Accept": "text/event-stream"}
            if last is not None:
                self._headers["Last-Event-ID"] = str(last)
            self.start()

        def run(self):
            with (
                httpx.Client(timeout=60) as client,
                client.stream("GET", self._path, headers=self._headers) as response,
            ):
                self.headers = response.headers
                for message in EventSource(response).iter_sse():
                    if message.event == "end":
                        self.end = json.loads(message.data)
                    else:
                        event = json.loads(message.data)
                        assert (message.id, message.event) == (str(event["id"]), event["type"])
                        self.events.append(event)

        @property
        def ids(self):
            return [event["id"] for event in self.events]

    return Reader


def polled(caller, job_id):
    events, after = [], 0
    while True:
        page = caller.get(f"/jobs/{job_id}/events", params={"after": after, "limit": 3}).json()
        events += page["data"]
        after = page["next"]
        if not page["has_more"]:
            return events


def test_events_are_polled_in_order(member, make_job, start_run):
    job_id = make_job(member)["id"]
    run = start_run(job_id)
    for step in range(1, 6):
        run.step(step, reward__mean=0.5)
    run.finish()
    events = polled(member, job_id)
    assert [event["id"] for event in events] == sorted({event["id"] for event in events})
    assert Counter(event["type"] for event in events) == {"state": 3, "step": 5}
    assert [event["data"]["status"] for event in events if event["type"] == "state"] == [
        "queued",
        "running",
        "succeeded",
    ]
    step = next(event for event in events if event["type"] == "step")
    assert step["data"]["step"] == 1
    assert step["data"]["metrics"] == {"reward/mean": 0.5}
    assert member.get(f"/jobs/{job_id}/events?after={events[-1]['id']}").json()["data"] == []
    for types in (["state"], ["state", "step"]):
        some = member.get(f"/jobs/{job_id}/events", params={"type": types}).json()["data"]
        assert some == [event for event in events if event["type"] in types]
    assert member.get(f"/jobs/{job_id}/events?type=steps").status_code == 422


def test_a_stream_gives_each_event_once_as_it_happens_and_ends_with_the_job(
    member, make_job, start_run, read_stream, wait_until
):
    job_id = make_job(member)["id"]
    readers = [read_stream(member, job_id) for _ in range(5)]
    wait_until(lambda: all(len(reader.events) == 1 for reader in readers))
    assert readers[0].headers["content-type"].startswith("text/event-stream")
    run = start_run(job_id)
    for step in range(1, 21):
        run.step(step, reward__mean=step / 20)
        if step == 10:
            # What was committed arrives while the job goes on, not at its end.
            wait_until(lambda: all(reader.events[-1]["data"].get("step") == 10 for reader in readers))
    run.finish()
    for reader in readers:
        reader.join(timeout=20)
        assert not reader.is_alive()
    assert all(reader.events == readers[0].events for reader in readers)
    assert readers[0].events == polled(member, job_id)
    assert readers[0].end == {"status": "succeeded"}


def test_a_stream_goes_on_after_the_last_event_id(member, make_job, start_run, read_stream):
    job_id = make_job(member)["id"]
    run = start_run(job_id)
    for step in range(1, 6):
        run.step(step)
    run.finish(JobStatus.FAILED, {"kind": "user", "code": "c", "message": "m", "evidence": []})
    events = polled(member, job_id)
    for start in (0, 3, len(events)):
        reader = read_stream(member, job_id, last=events[start - 1]["id"] if start else 0)
        reader.join(timeout=20)
        assert reader.events == events[start:]
        assert reader.end == {"status": "failed"}


def test_a_long_history_is_streamed_whole(member, make_job, start_run, read_stream):
    from trainer.spec.events import Log

    job_id = make_job(member)["id"]
    run = start_run(job_id)
    run.record(*(Log(time=0, level="info", code="c", message=f"message {n}") for n in range(1200)))
    run.finish()
    reader = read_stream(member, job_id)
    reader.join(timeout=30)
    messages = [event["message"] for event in reader.events if event["type"] == "message"]
    assert messages == [f"message {n}" for n in range(1200)]


@pytest.mark.parametrize("bad", ["x", "-1", "9" * 30, "1.5"])
def test_a_bad_last_event_id_is_refused(member, make_job, bad):
    job_id = make_job(member)["id"]
    response = member.get(f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": bad})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["header", "last-event-id"]


@contextmanager
def raw_stream(url, caller, job_id):
    """A stream on a bare socket, of which nothing is read but what the test reads."""
    host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(
            f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {caller.key.plain}\r\n\r\n".encode()
        )
        yield connection


def connections_of(database_url):
    with psycopg.connect(database_url) as connection:
        return dict(
            connection.execute(
                "select application_name, count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() group by 1"
            ).fetchall()
        )


def test_streams_hold_no_database_connections(member, make_job, url, database_url, wait_until):
    job_id = make_job(member)["id"]
    sockets = []
    try:
        for _ in range(60):
            opened = raw_stream(url, member, job_id)
            sockets.append((opened, opened.__enter__()))
        for _, connection in sockets:
            assert b"200 OK" in connection.recv(4096)
        counts = connections_of(database_url)
        # One for each process, for all of its streams and all that waits for a sampler: the server under test, and the
        # application of `member`.
        assert counts["asym-listener"] == 1 + 1
        assert counts["asym"] <= 50  # the two pools and the test's own, far below one for each stream and request
        # The streams leave room for everyone else.
        response = httpx.get(f"{url}/jobs", headers={"Authorization": f"Bearer {member.key.plain}"}, timeout=5)
        assert response.status_code == 200
    finally:
        for opened, _ in sockets:
            opened.__exit__(None, None, None)


def test_a_reader_who_does_not_read_holds_up_nobody(member, make_job, start_run, url, read_stream, wait_until):
    from trainer.spec.events import Log

    job_id = make_job(member)["id"]
    with raw_stream(url, member, job_id) as deaf:
        assert b"200 OK" in deaf.recv(1024)
        reader = read_stream(member, job_id)
        run = start_run(job_id)
        for batch in range(60):
            run.record(*(Log(time=0, level="info", code="c", message=f"{batch} " + "x" * 20_000) for _ in range(5)))
        run.finish()
        reader.join(timeout=30)
        assert not reader.is_alive()
        assert len([event for event in reader.events if event["type"] == "message"]) == 300


def test_a_stream_survives_the_loss_of_its_database_connections(
    member, make_job, start_run, read_stream, database_url, wait_until
):
    job_id = make_job(member)["id"]
    reader = read_stream(member, job_id)
    wait_until(lambda: reader.events)
    run = start_run(job_id)
    run.step(1)
    wait_until(lambda: reader.events[-1]["type"] == "step")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'asym-listener' and datname = current_database()"
        )
    run.step(2)
    wait_until(lambda: reader.events[-1]["data"].get("step") == 2)
    run.finish()
    reader.join(timeout=20)
    assert reader.end == {"status": "succeeded"}


def test_a_server_told_to_stop_ends_its_streams_and_itself(member, make_job, url, start_server):
    job_id = make_job(member)["id"]
    with raw_stream(url, member, job_id) as stream:
        assert b"200 OK" in stream.recv(1024)
        stopped = time.monotonic()
        start_server.stop()
        stream.settimeout(5)
        while stream.recv(4096):
            pass
        assert time.monotonic() - stopped < 8
