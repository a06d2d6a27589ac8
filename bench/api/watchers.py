"""Thousands of open streams while requests are served: bare sockets, so that the watching itself costs little.

Requests come by the clock, a hundred a second, whether or not those before have been answered; a request's time is
counted from when it was due, so one that had to wait for others is not taken for a fast one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import psutil
import psycopg

from bench.api.timing import Times

OPENED_AT_ONCE = 50
IDLE_PERCENT = 15.0


@dataclass
class Watched:
    """What was seen while so many watched."""

    watchers: int
    messages: int = 0
    lost: int = 0
    """Streams that ended by themselves."""
    opening: float = 0.0
    """Seconds until all were open and had caught up."""
    requests: list[float] = field(default_factory=list)
    cores: float = 0.0
    """CPU seconds that the API's process used per second."""
    memory: tuple[int, int] = (0, 0)
    """Of the API's process in bytes, before the streams and with them."""
    connections: int = 0
    """To the database, the most there were at once."""

    @property
    def times(self) -> Times:
        return Times(self.requests)


async def watch(
    port: int,
    pid: int,
    database_url: str,
    streams: Sequence[tuple[str, str]],
    requests: Sequence[tuple[str, str]],
    say: Callable[[], None],
    *,
    seconds: float,
    rate: float,
) -> Watched:
    """streams, requests: (path, key). `say` records something for every watched job; it is called once a second."""
    process, watched = psutil.Process(pid), Watched(len(streams))
    before, closing = process.memory_info().rss, asyncio.Event()
    began = time.perf_counter()
    readers = await _open(port, streams)
    tasks = [asyncio.create_task(_read(reader, watched, closing)) for reader, _ in readers]
    try:
        # Each stream has yet to catch up: what is measured is thousands that watch, not thousands that come at once.
        await asyncio.to_thread(_settle, process)
        watched.opening = time.perf_counter() - began
        used, since = sum(process.cpu_times()[:2]), time.perf_counter()
        talk = asyncio.create_task(_talk(say, closing))
        # By a process of its own: behind thousands of messages that are read here, a request would wait for us.
        with ProcessPoolExecutor(1, get_context("spawn")) as other:
            load = asyncio.get_running_loop().run_in_executor(other, ask, port, requests, seconds, rate)
            while not load.done():
                watched.connections = max(watched.connections, await asyncio.to_thread(_connections, database_url))
                await asyncio.sleep(1)
            watched.requests = await load
        watched.cores = (sum(process.cpu_times()[:2]) - used) / (time.perf_counter() - since)
        watched.memory = (before, process.memory_info().rss)
        closing.set()
        await talk
    finally:
        closing.set()
        for _, writer in readers:
            writer.close()
        await asyncio.gather(*tasks, return_exceptions=True)
    return watched


async def _open(
    port: int, streams: Sequence[tuple[str, str]]
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    limit = asyncio.Semaphore(OPENED_AT_ONCE)

    async def one(path: str, key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_request(path, {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"{path}: {head[:200]!r}")
            return reader, writer

    return await asyncio.gather(*(one(*stream) for stream in streams))


async def _read(reader: asyncio.StreamReader, watched: Watched, closing: asyncio.Event) -> None:
    while chunk := await reader.read(65536):
        watched.messages += chunk.count(b"event: metrics")
    watched.lost += not closing.is_set()


def _settle(process: psutil.Process) -> None:
    """Until the process has next to nothing to do, a minute at most."""
    for _ in range(60):
        if process.cpu_percent(interval=1.0) < IDLE_PERCENT:
            return


async def _talk(say: Callable[[], None], closing: asyncio.Event) -> None:
    while not closing.is_set():
        await asyncio.to_thread(say)
        await asyncio.sleep(1)


def ask(port: int, requests: Sequence[tuple[str, str]], seconds: float, rate: float) -> list[float]:
    """Seconds that each of these took, in turn, so many a second, from when it was due."""

    async def all_of_them() -> list[float]:
        return await asyncio.gather(*(_sent_at(port, *each) for each in _schedule(requests, seconds, rate)))

    return asyncio.run(all_of_them())


def _schedule(requests: Sequence[tuple[str, str]], seconds: float, rate: float) -> list[tuple[float, str, str]]:
    began = time.perf_counter() + 1.0
    return [(began + number / rate, *requests[number % len(requests)]) for number in range(int(seconds * rate))]


async def _sent_at(port: int, due: float, path: str, key: str) -> float:
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request(path, {"Authorization": f"Bearer {key}", "Connection": "close"}))
    answer = await reader.read()
    writer.close()
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise RuntimeError(f"{path}: {answer[:300]!r}")
    return time.perf_counter() - due


def _request(path: str, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()


def _connections(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'asym%'").fetchone()
    return 0 if row is None else int(row[0])
