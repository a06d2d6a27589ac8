"""Keeps a handful of child processes running: their output line by line, restarts with backoff, an orderly stop.

It knows nothing of Asym: `client.up` says which parts there are, in which order they start and stop, and what their
messages mean. What must survive this process's own death is the business of `client.front`.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

DRAIN_SECONDS = 1.0
"""How long a dead part's last lines are waited for; a grandchild may hold the pipe open for ever."""
LONGEST_LINE = 64 * 1024


@dataclass(frozen=True)
class Part:
    """One child process to keep running, or (`once`) to run to its end."""

    name: str
    argv: Sequence[str]
    environment: Callable[[], Mapping[str, str]]
    """Asked anew at every start."""
    stop_seconds: float = 5.0
    """How long it may take to stop after SIGTERM before it is killed."""
    once: bool = False
    stdin_is_a_leash: bool = False
    """Give it a pipe as stdin that is never written to: its end of file tells the part that this process died, or that
    it is to stop. Such a part obeys nothing else, so whoever signals a whole process tree does not stop it too soon."""
    on_stdout: Callable[[str], None] | None = None
    """Takes the lines of stdout, which then are no log lines."""


@dataclass(frozen=True)
class Restarts:
    """A part that ends unasked is started again after `first_pause` seconds, doubling up to `longest_pause`; after
    `limit` ends within `window` seconds it is given up."""

    limit: int = 5
    window: float = 60.0
    first_pause: float = 0.5
    longest_pause: float = 8.0

    def pause(self, ends: int) -> float:
        """Seconds to wait after the `ends`-th end (the first is 1) within the window."""
        return min(self.first_pause * 2.0 ** (ends - 1), self.longest_pause)


@dataclass(frozen=True)
class Finished:
    """A `once` part has ended."""

    name: str
    code: int


@dataclass(frozen=True)
class GivenUp:
    """A part ended so often that it is not started any more."""

    name: str
    code: int


class ProcessTree:
    """The parts and their keepers, one thread each. `log(name, line)` gets their output and the tree's own remarks
    about them (called from several threads); `notify` gets `Finished` and `GivenUp`."""

    def __init__(
        self,
        log: Callable[[str, str], None],
        notify: Callable[[Finished | GivenUp], None],
        restarts: Restarts = Restarts(),
    ) -> None:
        self._log = log
        self._notify = notify
        self._restarts = restarts
        self._keepers: dict[str, _Keeper] = {}

    def start(self, part: Part) -> None:
        keeper = self._keepers[part.name] = _Keeper(part, self._log, self._notify, self._restarts)
        keeper.thread.start()

    def processes(self) -> dict[str, int]:
        """Part name -> pid, of those that run at this moment."""
        pids = {name: keeper.pid for name, keeper in self._keepers.items()}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def stop(self, *stages: Sequence[str], hurry: threading.Event) -> None:
        """Stop the parts stage by stage, those of one stage at once: SIGTERM, and SIGKILL to the group of a part that
        is not gone within its `stop_seconds`, or as soon as `hurry` is set. Returns when all are gone."""
        for keeper in self._keepers.values():
            keeper.stopping.set()
        for stage in stages:
            keepers = [self._keepers[name] for name in stage if name in self._keepers]
            for keeper in keepers:
                keeper.terminate()
            for keeper in keepers:
                keeper.wait_or_kill(hurry)


class _Keeper:
    def __init__(
        self,
        part: Part,
        log: Callable[[str, str], None],
        notify: Callable[[Finished | GivenUp], None],
        restarts: Restarts,
    ) -> None:
        self._part = part
        self._log = log
        self._notify = notify
        self._restarts = restarts
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()  # between starting a process and stopping for good
        self._deadline = 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._keep, name=f"keeper of {part.name}", daemon=True)

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def _keep(self) -> None:
        ends: deque[float] = deque()
        total = 0
        while (code := self._run()) is not None:
            if self._part.once:
                self._notify(Finished(self._part.name, code))
                return
            if self.stopping.is_set():
                return
            total += 1
            now = time.monotonic()
            ends.append(now)
            while ends[0] < now - self._restarts.window:
                ends.popleft()
            what = f"{how_it_ended(code)} unasked, the {_ordinal(total)} time"
            if len(ends) >= self._restarts.limit:
                window = f"{self._restarts.window:.0f} s"
                self._remark(f"{what}; {len(ends)} times within {window}: given up, not started again")
                self._notify(GivenUp(self._part.name, code))
                return
            pause = self._restarts.pause(len(ends))
            self._remark(f"{what}; starting it again in {pause:.1f} s")
            self.stopping.wait(pause)

    def _run(self) -> int | None:
        """Run the part until it ends: its exit code, negative for a signal. None when it was not to start any more."""
        apart = self._part.on_stdout is not None
        with self._lock:
            if self.stopping.is_set():
                return None
            try:
                process = self._process = subprocess.Popen(
                    self._part.argv,
                    env=dict(self._part.environment()),
                    stdin=subprocess.PIPE if self._part.stdin_is_a_leash else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if apart else subprocess.STDOUT,
                    # Its own session: Ctrl-C in the terminal is for us to pass on, in order.
                    start_new_session=True,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as error:
                self._remark(f"cannot be started: {error}")
                return 127
        name = self._part.name
        pumps = []
        if process.stdout is not None:
            pumps.append(self._pump(process.stdout, self._part.on_stdout or (lambda line: self._log(name, line))))
        if process.stderr is not None:
            pumps.append(self._pump(process.stderr, lambda line: self._log(name, line)))
        code = process.wait()
        for pump in pumps:
            pump.join(DRAIN_SECONDS)
        return code

    def _remark(self, text: str) -> None:
        # The parts' own lines have their times; of a remark the time is half of what it says.
        self._log(self._part.name, f"** {time.strftime('%H:%M:%S')} {text}")

    def _pump(self, stream: IO[str], take: Callable[[str], None]) -> threading.Thread:
        def pump() -> None:
            with stream:
                # A longer line comes in pieces, rather than into memory whole.
                while line := stream.readline(LONGEST_LINE):
                    take(line.rstrip("\n"))

        thread = threading.Thread(target=pump, name=f"output of {self._part.name}", daemon=True)
        thread.start()
        return thread

    def terminate(self) -> None:
        self._deadline = time.monotonic() + self._part.stop_seconds
        with self._lock:
            if self._process is None:
                return
            if self._process.stdin is not None:
                self._process.stdin.close()
            else:
                self._process.terminate()

    def wait_or_kill(self, hurry: threading.Event) -> None:
        while self.thread.is_alive():
            pid = self.pid
            if pid is not None and (hurry.is_set() or time.monotonic() > self._deadline):
                reason = (
                    "told to hurry" if hurry.is_set() else f"not gone {self._part.stop_seconds:.0f} s after SIGTERM"
                )
                self._remark(f"{reason}: killed")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                self.thread.join(2 * DRAIN_SECONDS)
            self.thread.join(0.05)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def how_it_ended(code: int) -> str:
    """An exit code of subprocess in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
