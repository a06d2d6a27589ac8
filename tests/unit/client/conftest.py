"""A real HTTP server that answers as it is told, and a clock that nobody waits for."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from client import Asym
from client.sdk import AsyncClock, Clock


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

    do_GET = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815 (the names are http.server's)

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


class HeldClock(Clock):
    """Stands still but for the pauses that it is asked for, which it notes and does not take."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.began = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)

    def monotonic(self) -> float:
        return 1000.0 + sum(self.slept)

    def now(self) -> datetime:
        return self.began + timedelta(seconds=sum(self.slept))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class AsyncHeldClock(AsyncClock):
    """The same for `AsyncAsym`."""

    def __init__(self) -> None:
        self.held = HeldClock()
        self.slept = self.held.slept

    def monotonic(self) -> float:
        return self.held.monotonic()

    def now(self) -> datetime:
        return self.held.now()

    async def sleep(self, seconds: float) -> None:
        self.held.sleep(seconds)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def asym(server: Server, clock: HeldClock) -> Iterator[Asym]:
    with Asym(server.url, "asym_secret", retries=3, clock=clock) as asym:
        yield asym
