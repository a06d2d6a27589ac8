"""The real platform as processes that may be killed: Postgres and Valkey, the API, several workers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import psycopg

from store import keys, schema
from store.access import Identity, Role
from store.database import Database
from trainer.spec.failpoints import VARIABLE

ROOT = Path(__file__).parents[3]
LEASE_SECONDS = 3.0
SWEEP_SECONDS = 0.5
SILENCE_SECONDS = 1.0
SLOTS = 2


class OwnServers:
    """Servers of one test, so that it may kill them; they are started again by their supervisor."""

    def __init__(self, home):
        with (home / "embedded.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "store.embedded", "--home", str(home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        line = self._process.stdout.readline()
        assert line, "the embedded servers did not start"
        self.urls = json.loads(line)

    def find(self, name):
        found = []
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in child.name():
                    found.append(child)
        return found

    def postmaster(self):
        """Postgres's first process; None while there is none."""
        direct = {child.pid for child in psutil.Process(self._process.pid).children()}
        return next((child for child in self.find("postgres") if child.pid in direct), None)

    def signal(self, name, signum):
        """To all processes of `postgres` or `valkey`."""
        processes = self.find(name)
        assert processes
        for process in processes:
            try:
                process.send_signal(signum)
            except psutil.NoSuchProcess:
                continue

    def close(self):
        with self._process:
            self._process.stdin.close()


class Stack:
    """One API and `workers` workers on servers of their own, below `root`. What dies is started again by `keep_up`."""

    def __init__(self, root: Path, workers: int, port: int, models_cache: Path | None = None) -> None:
        self.root = root
        self.home = root / "home"
        self.failpoints = root / "failpoints"
        for folder in (self.home, root / "servers", root / "logs", self.failpoints):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in ("fired", "released"):
            (self.failpoints / folder).mkdir()
        if models_cache is not None:
            (self.home / "models-cache").symlink_to(models_cache)
        self.servers = OwnServers(root / "servers")
        self.database_url = self.servers.urls["database_url"]
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            # Its processes are killed here, the machine is not.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        schema.upgrade(self.database_url)
        self.database = Database(self.database_url, pool_size=5)
        with self.database.transaction() as session:
            team = keys.create_team(session, "faults").id
            key, self.key = keys.create(session, team, "faults", Role.MEMBER)
            self.identity = Identity(key.id, team, Role.MEMBER)
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self.offsets = [0.0] * workers
        self.workers: list[subprocess.Popen[bytes] | None] = [None] * workers
        self.api: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.keep_up()

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
        return kept | {
            "ASYM_HOME": str(self.home),
            "ASYM_DATABASE_URL": self.database_url,
            "ASYM_BROKER_URL": self.servers.urls["broker_url"],
            "ASYM_LEASE_SECONDS": str(LEASE_SECONDS),
            "ASYM_SWEEP_SECONDS": str(SWEEP_SECONDS),
            "ASYM_SILENCE_SECONDS": str(SILENCE_SECONDS),
            "ASYM_DRAIN_SECONDS": "20",
            VARIABLE: str(self.failpoints),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def keep_up(self) -> None:
        """Start what is not running."""
        for number, worker in enumerate(self.workers):
            if worker is None or worker.poll() is not None:
                script = str(Path(__file__).with_name("worker_process.py"))
                arguments = [script, str(self.offsets[number]), "--name", f"w{number}", "--cpu-slots", str(SLOTS)]
                self.workers[number] = self._start(f"worker-{number}", arguments)
        if self.api is None or self.api.poll() is not None:
            self.api = self._start("api", ["-m", "api", "--port", str(self._port)])

    def _start(self, name: str, arguments: list[str]) -> "subprocess.Popen[bytes]":
        self.restarts += 1
        with (self.root / "logs" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def request(self, method: str, path: str, seconds: float = 60.0, **options: object) -> httpx.Response:
        """Asked again until the API answers, as a client of a restarted server must."""
        deadline = time.monotonic() + seconds
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        while True:
            try:
                response = httpx.request(
                    method, self.url + path, headers=headers, timeout=30, trust_env=False, **options
                )
                if response.status_code < 500 or time.monotonic() > deadline:
                    return response
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            self.keep_up()
            time.sleep(0.05)

    def guards(self, number: int) -> list[psutil.Process]:
        """The guards of a worker's trainers."""
        worker = self.workers[number]
        try:
            return psutil.Process(worker.pid).children()
        except psutil.NoSuchProcess:
            return []

    def trainers(self) -> list[psutil.Process]:
        """Every process of every trainer that runs now, orphans included: known by the run's folder."""
        found = []
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                if str(self.home) in command and "--run-dir" in command and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def close(self) -> None:
        for process in [*self.workers, self.api]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            if process is not None:
                process.wait()
        for process in [*self.servers.find("postgres"), *self.servers.find("valkey")]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self.database.dispose()
        self.servers.close()
