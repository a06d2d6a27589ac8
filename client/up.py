"""The supervisor of `asym up`: which parts the platform has, in which order they start and stop.

    python -m client.up --home DIR --api-port N --dashboard-port N      (started by client.front, which holds the lock)

Embedded Postgres and Valkey first (unless ASYM_DATABASE_URL and ASYM_BROKER_URL name servers of one's own), then the
migrations, then API, worker and dashboard at once. Exit code 0 after an orderly stop, 1 when a part was given up or
the start failed.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import httpx
import psutil

from client.combined_log import CombinedLog
from client.credentials import (
    Credentials,
    child_environment,
    credentials_file,
    read_credentials,
    servers_of_ones_own,
    write_credentials,
)
from client.front import Address
from client.process_tree import Finished, GivenUp, Part, ProcessTree, how_it_ended

STOP_ORDER = (("worker",), ("dashboard",), ("api", "migrate"), ("embedded",))
"""The worker first: it checkpoints what it runs and writes that down, for which the others must be there. Mirrors go
with the dashboard: they read the API, too."""
MIRRORS = "ASYM_MIRRORS"
"""Targets of `asym mirror`, quoted as for a shell: each is told of all jobs by a process of its own."""
SLOW_START_SECONDS = 60.0
ONE_REQUEST_SECONDS = 1.0
"""Whoever signals a whole group of processes asks us twice, directly and through the front: that is no impatience."""


@dataclass(frozen=True)
class Announced:
    """The embedded servers answer at these URLs."""

    database_url: str
    broker_url: str


@dataclass(frozen=True)
class Answers:
    """Both the API and the dashboard answer."""


@dataclass(frozen=True)
class StopAsked:
    reason: str


Message = Announced | Answers | StopAsked | Finished | GivenUp


class Supervisor:
    """One platform from start to stop. Everything that happens arrives in one inbox and is decided upon in `run`."""

    def __init__(self, home: Path, address: Address, log: CombinedLog) -> None:
        self._home = home
        self._address = address
        self._log = log
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._hurry = threading.Event()
        self._asked_at: float | None = None
        self._tree = ProcessTree(log, self._inbox.put)
        self._servers: Announced | None = None
        self._filed = read_credentials(home)
        targets = shlex.split(os.environ.get(MIRRORS, ""))
        self._mirrors = [(f"mirror-{number}", target) for number, target in enumerate(targets, start=1)]

    def say(self, line: str) -> None:
        self._log("up", line)

    def run(self) -> int:
        """Start, watch, stop: the exit code."""
        database_url, broker_url = servers_of_ones_own()
        if database_url and broker_url:
            self._on_servers(Announced(database_url, broker_url))
        else:
            self._tree.start(self._embedded(database_url, broker_url))
        while (outcome := self._on(self._inbox.get())) is None:
            pass
        mirrors = tuple(name for name, _ in self._mirrors)
        order = [(*names, *mirrors) if "dashboard" in names else names for names in STOP_ORDER]
        self._tree.stop(*order, hurry=self._hurry)
        self.say("stopped")
        return outcome

    def ask_to_stop(self, reason: str) -> None:
        """From a signal handler or another thread. Asked once more, a while later: kill what is left."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > ONE_REQUEST_SECONDS:
            self._hurry.set()
        self._inbox.put(StopAsked(reason))

    def _on(self, message: Message) -> int | None:
        """What a message leads to; an exit code when the platform is to stop."""
        match message:
            case Announced():
                return self._on_servers(message)
            case Finished(code=0):
                self._start_parts()
            case Finished(name, code):
                self.say(f"{name} {how_it_ended(code)}: the database is not ready for this version; stopping")
                return 1
            case Answers():
                self._tell_ready()
            case GivenUp(name, code) if name.startswith("mirror-"):
                target = dict(self._mirrors)[name]
                self.say(f"{target} is not told any more: {name} keeps ending (it {how_it_ended(code)})")
            case GivenUp(name, code):
                self.say(
                    f"{name} keeps ending (it {how_it_ended(code)}); see {self._home / 'logs' / name}.log; stopping"
                )
                return 1
            case StopAsked(reason):
                self.say(f"{reason}: stopping in order (asked once more, what is left is killed)")
                return 0
        return None

    def _on_servers(self, servers: Announced) -> int | None:
        if self._servers is None:
            self._servers = servers
            self._tree.start(self._part("migrate", "store.migrate", *self._urls(), once=True))
        elif servers != self._servers:
            self.say("the embedded servers came back at other addresses; stopping")
            return 1
        return None

    def _start_parts(self) -> None:
        self._file_addresses()
        ports = self._address
        self._tree.start(self._part("api", "api", "--host", ports.host, "--port", str(ports.api_port)))
        self._tree.start(self._part("worker", "worker", "--drain-seconds", "20", stop_seconds=30.0))
        self._tree.start(
            self._part("dashboard", "dashboard", "--host", ports.host, "--port", str(ports.dashboard_port))
        )
        for name, target in self._mirrors:
            self._tree.start(self._part(name, "client", "mirror", target))
        threading.Thread(target=self._await_answers, name="readiness", daemon=True).start()

    def _urls(self) -> list[str]:
        return ["--api-url", self._address.api_url, "--dashboard-url", self._address.dashboard_url]

    def _file_addresses(self) -> None:
        """The key of the first run stays; the addresses are those of this one."""
        filed = self._filed = read_credentials(self._home)
        if filed is not None:
            now = Credentials(self._address.api_url, filed.api_key, self._address.dashboard_url)
            if now != filed:
                write_credentials(self._home, now)

    def _tell_ready(self) -> None:
        seconds = time.time() - psutil.Process(os.getppid()).create_time()
        key = "set ASYM_API_KEY to one of your database's keys"
        if self._filed is not None:
            key = f"{credentials_file(self._home)} (used by the `asym` command and the SDK)"
        facts = {"api_url": self._address.api_url, "dashboard_url": self._address.dashboard_url}
        self._log(
            "up", f"ready in {seconds:.1f} s", ready=True, seconds=round(seconds, 1), home=str(self._home), **facts
        )
        self.say(f"  API        {self._address.api_url}  (reference: {self._address.api_url}/docs)")
        self.say(f"  dashboard  {self._address.dashboard_url}")
        self.say(f"  key        {key}")
        self.say(f"  logs       {self._home / 'logs'}")
        self.say("next: `asym demo`, or `asym submit SPEC.yaml --watch`; Ctrl-C stops the platform")

    def _await_answers(self) -> None:
        waiting = {
            "api": f"{self._address.api_url}/readyz",
            "dashboard": f"{self._address.dashboard_url}/_stcore/health",
        }
        complain_at = time.monotonic() + SLOW_START_SECONDS
        with httpx.Client(timeout=2.0, trust_env=False) as http:
            while waiting:
                for name, url in list(waiting.items()):
                    if _answers(http, url):
                        del waiting[name]
                if waiting and time.monotonic() > complain_at:
                    self.say(f"still no answer from {' and '.join(waiting)} after {SLOW_START_SECONDS:.0f} s")
                    complain_at = time.monotonic() + SLOW_START_SECONDS
                time.sleep(0.1)
        self._inbox.put(Answers())

    def _embedded(self, database_url: str | None, broker_url: str | None) -> Part:
        def announced(line: str) -> None:
            try:
                urls = json.loads(line)
                servers = Announced(database_url or urls["database_url"], broker_url or urls["broker_url"])
            except (ValueError, KeyError, TypeError):
                self._log("embedded", line)
            else:
                self._inbox.put(servers)

        return Part(
            name="embedded",
            argv=[sys.executable, "-m", "store.embedded", "--home", str(self._home), "--leashed"],
            environment=lambda: child_environment(self._home),
            stop_seconds=15.0,
            stdin_is_a_leash=True,
            on_stdout=announced,
        )

    def _part(self, name: str, module: str, *arguments: str, stop_seconds: float = 5.0, once: bool = False) -> Part:
        return Part(
            name=name,
            argv=[sys.executable, "-m", module, *arguments],
            environment=self._environment,
            stop_seconds=stop_seconds,
            once=once,
        )

    def _environment(self) -> Mapping[str, str]:
        if self._servers is None:
            raise RuntimeError("a part was started before the servers were there")
        # The shell's ASYM_API_URL and key may be meant for another platform than this one.
        own = {"ASYM_API_URL": self._address.api_url}
        if self._filed is not None:
            own["ASYM_API_KEY"] = self._filed.api_key
        return child_environment(
            self._home,
            ASYM_DATABASE_URL=self._servers.database_url,
            ASYM_BROKER_URL=self._servers.broker_url,
            **own,
        )


def _answers(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _when_stdin_ends(then: Callable[[], None]) -> None:
    def watch() -> None:
        while os.read(0, 4096):
            pass
        then()

    threading.Thread(target=watch, name="front", daemon=True).start()


def supervisor_command(home: Path, address: Address, *, as_json: bool = False) -> list[str]:
    """The command line that `client.front.Front` runs."""
    ports = ["--api-port", str(address.api_port), "--dashboard-port", str(address.dashboard_port)]
    return [sys.executable, "-m", "client.up", "--home", str(home), *ports, *(["--json"] if as_json else [])]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m client.up", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--api-port", type=int, required=True)
    parser.add_argument("--dashboard-port", type=int, required=True)
    parser.add_argument("--json", action="store_true", help="the combined log as JSON lines")
    arguments = parser.parse_args()
    as_json = arguments.json or os.environ.get("ASYM_LOG_FORMAT") == "json"
    log = CombinedLog(arguments.home / "logs", sys.stdout, as_json=as_json)
    supervisor = Supervisor(arguments.home, Address(arguments.api_port, arguments.dashboard_port), log)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.ask_to_stop("asked to stop"))
    _when_stdin_ends(lambda: supervisor.ask_to_stop("the process that started the platform is gone"))
    try:
        return supervisor.run()
    finally:
        log.close()


if __name__ == "__main__":
    sys.exit(main())
