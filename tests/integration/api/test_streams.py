"""Many watchers, slow ones and logs: what streams cost a real server, and whom it lets go."""

import asyncio
import json
import re
import resource
import socket
import threading
import time

import httpx
import psutil
import psycopg
import pytest
import uvicorn
from httpx_sse import EventSource

from api.events import stream
from api.main import create_app
from trainer.spec.events import Log

WATCHERS = 400
LEAST_FILES = 2 * WATCHERS


def address_of(url):
    host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()
    return host, int(port)


def request_for(path, key):
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {key.plain}\r\n\r\n"
    ).encode()


class Watcher:
    """A stream on a connection of its own, without a thread of its own."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self.messages = []

    @classmethod
    async def open(cls, url, path, key):
        reader, writer = await asyncio.open_connection(*address_of(url))
        writer.write(request_for(path, key))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return cls(reader, writer)

    async def follow(self):
        """Until the job has ended."""
        buffered = b""
        while True:
            buffered += await self._reader.read(65_536)
            *whole, buffered = buffered.split(b"\n\n")
            for part in whole:
                fields = dict(re.findall(rb"^(id|event|data): (.*)$", part, re.MULTILINE))
                if fields.get(b"event") == b"end":
                    self._writer.close()
                    return
                if b"data" in fields:
                    self.messages.append(json.loads(fields[b"data"]))


@pytest.fixture
def files():
    """Enough open files on this side, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_hundreds_of_watchers_see_everything_while_others_are_served(
    files, start_server, member, make_job, start_run, database_url
):
    url = start_server(ASYM_WATCHERS_PER_KEY=str(WATCHERS))
    [server] = [child for child in psutil.Process().children() if str(address_of(url)[1]) in " ".join(child.cmdline())]
    assert server.rlimit(psutil.RLIMIT_NOFILE)[0] >= LEAST_FILES
    jobs = [make_job(member)["id"] for _ in range(4)]
    # The one that runs is claimed first: the others wait, and are watched all the same.
    run = start_run(jobs[0])
    latencies = []

    async def watch():
        # One is open before the memory is looked at, so that what the first costs is not counted as everyone's.
        watchers = [await Watcher.open(url, f"/jobs/{jobs[0]}/events", member.key)]
        before = server.memory_info().rss
        for start in range(1, WATCHERS, 50):
            watchers += await asyncio.gather(
                *(
                    Watcher.open(url, f"/jobs/{jobs[number % 4]}/{('events', 'logs')[number // 4 % 2]}", member.key)
                    for number in range(start, min(start + 50, WATCHERS))
                )
            )
        grown = (server.memory_info().rss - before) / WATCHERS
        with psycopg.connect(database_url) as connection:
            counts = dict(
                connection.execute(
                    "select application_name, count(*) from pg_stat_activity where datname = current_database()"
                    " and pid <> pg_backend_pid() group by 1"
                ).fetchall()
            )
        threads = server.num_threads()
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {member.key.plain}"}) as http:
            for step in range(1, 21):
                await asyncio.to_thread(run.record, logs=[f"line {step}"])
                await asyncio.to_thread(run.step, step)
                began = time.perf_counter()
                assert (await http.get("/jobs", timeout=10)).status_code == 200
                latencies.append(time.perf_counter() - began)
        await asyncio.to_thread(run.finish)
        for job_id in jobs[1:]:
            assert await asyncio.to_thread(lambda job=job_id: member.post(f"/jobs/{job}/cancel").status_code) == 200
        async with asyncio.timeout(60):
            await asyncio.gather(*(watcher.follow() for watcher in watchers))
        return watchers, grown, counts, threads

    watchers, grown, counts, threads = asyncio.run(watch())
    for number, watcher in enumerate(watchers):
        ids = [message["id"] for message in watcher.messages]
        assert ids == sorted(set(ids)), number
        if number == 0 or (number % 4 == 0 and number // 4 % 2 == 0):
            assert [each["data"]["step"] for each in watcher.messages if each["type"] == "step"] == [*range(1, 21)]
        elif number % 4 == 0:
            assert [each["line"] for each in watcher.messages] == [f"line {step}" for step in range(1, 21)]
        elif number // 4 % 2 == 0:
            assert watcher.messages[-1]["data"]["status"] == "cancelled"
    assert grown < 200_000, f"{grown:.0f} bytes a stream"
    assert threads < 60
    # One for each process, for all of its streams and all that waits for a sampler: the server under test, and the
    # application of `member`.
    assert counts["asym-listener"] == 1 + 1
    assert counts["asym"] <= 60  # pools, far below one for each stream
    assert sorted(latencies)[len(latencies) // 2] < 1.0


def test_the_log_is_streamed_as_it_is_written_and_taken_up_where_it_broke_off(
    start_server, member, caller, make_job, start_run
):
    url = start_server()
    job_id = make_job(member)["id"]
    run = start_run(job_id)
    run.record(logs=["one", "two"])
    headers = {"Authorization": f"Bearer {member.key.plain}", "Accept": "text/event-stream"}
    got, ended = [], []
    first = threading.Event()

    def read():
        with httpx.Client(timeout=60) as http, http.stream("GET", f"{url}/jobs/{job_id}/logs", headers=headers) as told:
            for message in EventSource(told).iter_sse():
                if message.event == "end":
                    ended.append(json.loads(message.data))
                else:
                    assert (message.event, message.id) == ("line", str(json.loads(message.data)["id"]))
                    got.append(json.loads(message.data))
                    if len(got) == 2:
                        first.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert first.wait(20)
    run.record(logs=["three"])
    run.finish()
    thread.join(timeout=20)
    assert [line["line"] for line in got] == ["one", "two", "three"]
    assert ended == [{"status": "succeeded"}]
    assert got == member.get(f"/jobs/{job_id}/logs").json()["data"]

    resumed = headers | {"Last-Event-ID": str(got[1]["id"])}
    with httpx.Client(timeout=20) as http, http.stream("GET", f"{url}/jobs/{job_id}/logs", headers=resumed) as told:
        assert [message.event for message in EventSource(told).iter_sse()] == ["line", "end"]
    stranger = {"Authorization": f"Bearer {caller().key.plain}", "Accept": "text/event-stream"}
    assert httpx.get(f"{url}/jobs/{job_id}/logs", headers=stranger).status_code == 404
    bad = member.get(f"/jobs/{job_id}/logs", headers={"Accept": "text/event-stream", "Last-Event-ID": "x"})
    assert bad.status_code == 422


def test_a_reader_who_does_not_read_is_let_go(
    settings, member, make_job, start_run, free_port, wait_until, monkeypatch
):
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.5)
    app = create_app(settings)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        job_id = make_job(member)["id"]
        run = start_run(job_id)
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(request_for(f"/jobs/{job_id}/events", member.key))
            assert b"200 OK" in deaf.recv(1024)
            wait_until(lambda: app.state.api.feeds.streams == 1)
            for batch in range(40):
                run.record(*(Log(time=0, level="info", code="c", message=f"{batch} " + "x" * 50_000) for _ in range(5)))
            # Ten megabytes that it does not take: it is dropped, and with it all that waited for it.
            wait_until(lambda: app.state.api.feeds.streams == 0)
    finally:
        app.state.api.feeds.close()
        server.should_exit = True
        thread.join(timeout=20)
    assert not thread.is_alive()
