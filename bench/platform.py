"""A platform of its own for an instrument: `asym up` in a new folder, its API, and its processes to look at or to kill.

Knows the platform from outside only: its command, its HTTP interface, its process tree.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

START_SECONDS = 180.0
T = TypeVar("T")


class Platform:
    """A running platform; `opened` makes one."""

    def __init__(self, home: Path, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        told = json.loads((home / "credentials.json").read_text())
        self._url = told["api_url"]
        self._headers = {"Authorization": f"Bearer {told['api_key']}"}
        self._http = self.client(timeout=30)

    def client(self, timeout: float) -> httpx.Client:
        """A client of its own, with the platform's first key."""
        return httpx.Client(base_url=self._url, headers=self._headers, timeout=timeout, trust_env=False)

    def get(self, path: str, **params: str | int) -> dict[str, Any]:
        """What the API answers, asked again while it is being restarted."""
        return wait(lambda: self._get(path, params), 60, f"an answer to {path}")

    def _get(self, path: str, params: Mapping[str, str | int]) -> dict[str, Any] | None:
        try:
            return _checked(self._http.get(path, params=params))
        except httpx.TransportError:
            return None

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _checked(self._http.post(path, json=body))

    def upload(self, name: str, content: bytes) -> str:
        """The id of the new data set."""
        return str(_checked(self._http.post("/datasets", files={"file": (name, content)}))["id"])

    def events(self, job: str, kind: str, attempt: int = 0) -> list[dict[str, Any]]:
        """A job's events of one type, from that attempt on, oldest first."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.get(f"/jobs/{job}/events", after=after, limit=200)
            found += [event for event in page["data"] if event["type"] == kind and event["attempt"] >= attempt]
            if not page["data"] or not page["has_more"]:
                return found
            after = page["data"][-1]["id"]

    @property
    def pid(self) -> int:
        """Of the process that all others of the platform are below."""
        return self._process.pid

    def part(self, module: str) -> psutil.Process:
        """The process of `python -m MODULE`."""
        return wait(lambda: self._part(module), 60, f"a process of {module}")

    def _part(self, module: str) -> psutil.Process | None:
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:3] == ["-m", module]:
                    return process
        return None

    def trainer(self) -> psutil.Process:
        """The trainer's own process, below the worker and the guard."""

        def find() -> psutil.Process | None:
            with contextlib.suppress(psutil.Error):
                for process in self.part("worker").children(recursive=True):
                    if process.cmdline()[1:4] == ["-P", "-m", "trainer"]:
                        return process
            return None

        return wait(find, 60, "a trainer")

    def cpu_seconds(self) -> float:
        """What the platform's own processes have used so far, the trainers and their guards not among them."""
        total = 0.0
        trainers = {process.pid for process in self.part("worker").children(recursive=True)}
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if process.pid not in trainers:
                with contextlib.suppress(psutil.Error):
                    used = process.cpu_times()
                    total += used.user + used.system
                    if "postgres" in process.name():  # what its connections used that were closed
                        total += used.children_user + used.children_system
        return total


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise RuntimeError(f"{response.request.method} {response.url}: {response.status_code} {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


def wait(condition: Callable[[], T | None], seconds: float, what: str, poll: float = 0.01) -> T:
    """The first value of the condition that is one; RuntimeError when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(poll)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def opened(models_cache: Path | None = None, **environment: str) -> Iterator[Platform]:
    """A platform that is ready; gone at the end. `models_cache`: where builtin models are kept from run to run."""
    with tempfile.TemporaryDirectory(prefix="asym-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        if models_cache is not None:
            models_cache.mkdir(parents=True, exist_ok=True)
            (home / "models-cache").symlink_to(models_cache.resolve())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
        ports = ["--api-port", str(_free_port()), "--dashboard-port", str(_free_port())]
        with (Path(folder) / "up.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "client", "up", "--home", str(home), *ports],
                env={**kept, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        said = Path(folder) / "up.log"
        try:
            wait(lambda: b"ready in" in said.read_bytes(), START_SECONDS, "a platform that is ready")
            yield Platform(home, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
