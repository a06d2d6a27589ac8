"""The process in front of the platform's supervisor: what the user started, signals and waits for.

    asym up / asym demo  (this, the front)
      └─ python -m client.up  (the supervisor, in a session of its own)
           └─ store.embedded, api, worker, dashboard

Each of the two outlives the other's sudden death: the supervisor stops everything in order when its stdin, a pipe from
here, reaches its end; and orphans of a killed supervisor are handed to the front (PR_SET_CHILD_SUBREAPER, Linux),
which then ends them. The home's lock is held by both, so that it is free only when nothing is left.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from client.credentials import child_environment

DEFAULT_PORTS = (8000, 8501)
"""Of the API and of the dashboard."""
_PR_SET_CHILD_SUBREAPER = 36
ORPHAN_SECONDS = 15.0
"""How long orphans of a killed supervisor may take to stop after SIGTERM before they are killed."""


class AlreadyUp(Exception):  # noqa: N818 (a state, not a mistake)
    """Another platform lives in this home."""

    def __init__(self, home: Path, running: dict[str, object]) -> None:
        self.running = running
        known = "".join(
            f"\n  {label:<10} {running[key]}"
            for label, key in (("pid", "pid"), ("API", "api_url"), ("dashboard", "dashboard_url"))
            if key in running
        )
        super().__init__(f"Asym is already up in {home}{known}")


class CannotStart(Exception):  # noqa: N818 (see above)
    """Something is in the way that is better said before anything is started."""


@dataclass(frozen=True)
class Address:
    """Where the platform is to be found; loopback only."""

    api_port: int
    dashboard_port: int
    host: str = "127.0.0.1"

    @property
    def api_url(self) -> str:
        return f"http://{self.host}:{self.api_port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://{self.host}:{self.dashboard_port}"


def prepare_home(home: Path) -> None:
    """Make the home, for its owner only. A folder full of other things keeps its mode: it is not ours to close."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (home / "up.lock").exists() or not any(home.iterdir()):
        home.chmod(0o700)
    elif home.stat().st_mode & 0o077:
        print(f"asym: {home} holds other files and is open to other users; its mode is left as it is", file=sys.stderr)


def lock_home(home: Path, address: Address) -> int:
    """Take the home's lock and write into it who holds it: its descriptor. AlreadyUp when another process has it."""
    path = home / "up.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyUp(home, running_in(home)) from None
    content = {"pid": os.getpid(), "api_url": address.api_url, "dashboard_url": address.dashboard_url}
    os.truncate(fd, 0)
    os.pwrite(fd, json.dumps(content).encode(), 0)
    return fd


def running_in(home: Path) -> dict[str, object]:
    """{pid, api_url, dashboard_url} of whoever locked the home last; what is known of it."""
    try:
        found = json.loads((home / "up.lock").read_text())
    except (OSError, ValueError):  # taken a moment ago and not yet written
        return {}
    return found if isinstance(found, dict) else {}


def is_up(home: Path) -> bool:
    """Whether some process holds the home's lock."""
    try:
        fd = os.open(home / "up.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        # As servers do: a connection of an earlier run in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_ports(address: Address) -> None:
    """CannotStart names the option of a port that is taken."""
    if address.api_port == address.dashboard_port:
        raise CannotStart(f"--api-port and --dashboard-port are both {address.api_port}; choose two")
    for option, port in (("--api-port", address.api_port), ("--dashboard-port", address.dashboard_port)):
        if not port_is_free(port, address.host):
            raise CannotStart(f"port {port} is taken by another program; choose another with {option}")


class Front:
    """Runs a supervisor and leaves no process of its tree behind. One per process, made in the main thread."""

    def __init__(self, argv: Sequence[str], *, home: Path, lock: int, quiet: bool = False) -> None:
        """quiet: the combined log is not for this terminal; its files have it."""
        _become_subreaper()
        self._supervisor = subprocess.Popen(
            argv,
            env=child_environment(home),
            stdin=subprocess.PIPE,  # never written to: its end tells the supervisor that this process is gone
            stdout=subprocess.DEVNULL if quiet else None,
            start_new_session=True,
            pass_fds=[lock],
        )
        self.exit_code: int | None = None
        """The supervisor's, negative for a signal; None while it runs."""
        self._over = threading.Event()
        self._reaper = threading.Thread(target=self._reap, name="reaper", daemon=True)
        self._reaper.start()

    @property
    def pid(self) -> int:
        return self._supervisor.pid

    def stop(self) -> None:
        """Ask for an orderly stop; asked again, the supervisor kills what is left."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._supervisor.pid, signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the supervisor and all that it started are gone: its exit code, None after `timeout` seconds."""
        return self.exit_code if self._over.wait(timeout) else None

    def _reap(self) -> None:
        # As the reaper of a whole tree this process gets children it did not start. waitpid(-1) takes them all, at
        # once: Postgres's own stop waits for the pid to vanish.
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            if pid == self._supervisor.pid:
                self.exit_code = self._supervisor.returncode = os.waitstatus_to_exitcode(status)
                threading.Thread(target=self._end_orphans, name="orphans", daemon=True).start()
        self._over.set()

    def _end_orphans(self) -> None:
        me = psutil.Process()
        for child in me.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not self._over.wait(0.05):
            if time.monotonic() > deadline:
                for child in me.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
