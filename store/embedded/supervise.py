"""Keeps the servers running until told to stop: starts them together, and starts again one that dies."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from store.embedded.server import Server

_TICK_SECONDS = 0.05
_START_SECONDS = 120.0
"""For one that lives but does not answer: Postgres may have much to recover."""
_FIRST_PAUSE_SECONDS = 0.2
_MOST_RESTARTS = 6
"""In a row without an answer; then it is not a mishap but a fault that somebody must look at."""


class ServerFailed(RuntimeError):  # noqa: N818
    """A server cannot be kept running; the message holds the end of its log."""


@dataclass
class _Watch:
    server: Server
    answered: bool = False
    """Since it was last started."""
    ever_answered: bool = False
    started: float = 0.0
    restarts: int = 0
    """Since it last answered."""
    next_start: float = 0.0


class Supervisor:
    """Runs in the main thread: the kernel ties a child's life to the thread that started it."""

    def __init__(self, servers: Sequence[Server], on_ready: Callable[[], None], *, leashed: bool = False) -> None:
        """`on_ready` is called once, when all of them answer for the first time. `leashed`: end with stdin alone."""
        self._leashed = leashed
        self._watches = [_Watch(server) for server in servers]
        self._on_ready = on_ready
        self._stop_reason: str | None = None

    def run(self) -> None:
        """Until SIGTERM, SIGINT or the end of stdin. ServerFailed when a server cannot be kept running."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stay if self._leashed else self._stop_on_signal)
        announced = False
        try:
            while self._stop_reason is None:
                for watch in self._watches:
                    self._tend(watch)
                if not announced and all(watch.answered for watch in self._watches):
                    announced = True
                    self._on_ready()
                self._wait()
            _say(f"stopping: {self._stop_reason}")
        finally:
            # In the order opposite to that of the start.
            for watch in reversed(self._watches):
                watch.server.stop()

    def _stop_on_signal(self, number: int, _frame: object) -> None:
        self._stop_reason = signal.Signals(number).name

    @staticmethod
    def _stay(number: int, _frame: object) -> None:
        # Whoever signals every process at once, as a service manager does, means the platform, which stops us last: the
        # worker has checkpoints to write down. A handler and not SIG_IGN, which the servers would inherit.
        _say(f"{signal.Signals(number).name}: staying until the platform lets go")

    def _wait(self) -> None:
        """For one tick, or until stdin has something: it never has but its end, when our own supervisor is gone."""
        readable, _, _ = select.select([sys.stdin], [], [], _TICK_SECONDS)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            self._stop_reason = "end of standard input"

    def _tend(self, watch: _Watch) -> None:
        server, now = watch.server, time.monotonic()
        if server.process is None:
            if now >= watch.next_start:
                server.launch()
                watch.started, watch.answered = now, False
        elif not server.running():
            self._restart_later(watch, f"ended with status {server.process.returncode}")
        elif not watch.answered:
            if server.ready():
                if watch.ever_answered:
                    _say(f"{server.name} answers again")
                watch.answered = watch.ever_answered = True
                watch.restarts = 0
            elif now - watch.started > _START_SECONDS:
                raise ServerFailed(f"{server.name} does not answer; the end of {server.log_file}:\n{server.log_end()}")

    def _restart_later(self, watch: _Watch, what: str) -> None:
        server = watch.server
        if not watch.ever_answered or watch.restarts >= _MOST_RESTARTS:
            raise ServerFailed(f"{server.name} {what}; the end of {server.log_file}:\n{server.log_end()}")
        pause = _FIRST_PAUSE_SECONDS * 2**watch.restarts
        _say(f"{server.name} {what}: starting it again in {pause:g} s")
        server.process = None
        watch.answered = False
        watch.restarts += 1
        watch.next_start = time.monotonic() + pause


def _say(message: str) -> None:
    print(f"embedded: {message}", file=sys.stderr, flush=True)
