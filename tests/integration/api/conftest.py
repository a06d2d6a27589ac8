"""The API under test: in this process for most tests, as `python -m api` for those about connections."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.main import create_app
from store import leases, workers
from store.access import Role
from store.database import Database
from store.settings import Settings
from store.status import JobStatus
from trainer.spec import events as trainer_events

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Caller:
    """Somebody with a key."""

    http: TestClient
    key: Any
    """The TeamKey of make_key."""

    def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return self.http.request(method, path, headers=bearer(self.key.plain) | (headers or {}), **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        return self.request("DELETE", path, **more)


def bearer(plain: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {plain}"}


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def anonymous(app: FastAPI) -> Iterator[TestClient]:
    """The running application; requests carry no key."""
    with TestClient(app) as client:
        yield client


@pytest.fixture
def caller(anonymous: TestClient, make_key: Callable[..., Any]) -> Callable[..., Caller]:
    """caller(role=Role.MEMBER, team_id=None): somebody of that team, or of a new one."""

    def make(role: Role = Role.MEMBER, team_id: str | None = None) -> Caller:
        return Caller(anonymous, make_key(role, team_id))

    return make


@pytest.fixture
def member(caller: Callable[..., Caller]) -> Caller:
    return caller()


@pytest.fixture
def stored_files(settings: Settings) -> Callable[[], list[Path]]:
    """Every file under the artifact folder but the locks."""

    def find() -> list[Path]:
        return [
            path
            for path in settings.artifacts.rglob("*")
            if path.is_file() and path.parent != settings.artifacts / "locks"
        ]

    return find


class Run:
    """A worker's side of one job: claims it and records what a trainer would say."""

    def __init__(self, database: Database, job_id: str) -> None:
        self.database = database
        with database.transaction() as session:
            worker = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=64, version="0")
        with database.transaction() as session:
            claim = leases.claim(session, worker.id, free_gpus=0, free_cpu_slots=64, lease_seconds=60)
        assert claim is not None
        assert claim.job_id == job_id
        self.job_id = job_id
        self.attempt = claim.attempt
        self.batch = 0

    def record(self, *events: trainer_events.Event, logs: list[str] | None = None) -> None:
        self.batch += 1
        with self.database.transaction() as session:
            leases.record(session, self.job_id, self.attempt, list(events), logs or [], batch=self.batch)

    def step(self, step: int, **metrics: Any) -> None:
        self.record(
            trainer_events.Step(time=0.0, step=step, metrics={k.replace("__", "/"): metrics[k] for k in metrics})
        )

    def finish(self, status: JobStatus = JobStatus.SUCCEEDED, failure: Any = None) -> None:
        with self.database.transaction() as session:
            leases.finish(session, self.job_id, self.attempt, status, failure)


@pytest.fixture
def start_run(database: Database) -> Callable[[str], Run]:
    """start_run(job_id): a worker claims the job (which has to be the only one queued)."""
    return lambda job_id: Run(database, job_id)


@pytest.fixture
def make_job(make_dataset: Callable[..., Any], make_spec: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """make_job(caller, **sections): a queued job of the caller, made over HTTP."""

    def make(caller: Caller, **sections: Any) -> dict[str, Any]:
        dataset = make_dataset(caller.key.identity)
        spec = make_spec(dataset.id, **sections).model_dump(mode="json", exclude_unset=True)
        response = caller.post("/jobs", json=spec)
        assert response.status_code == 201, response.text
        job: dict[str, Any] = response.json()
        return job

    return make


class Starter:
    """Starts `python -m api` as a process of its own, and sees to it that it ends by itself when told to stop."""

    def __init__(self, environment: dict[str, str], port: Callable[[], int], wait_until: Callable[..., Any]) -> None:
        self._environment = environment
        self._port = port
        self._wait_until = wait_until
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, *, ready: bool = True, **settings: str) -> str:
        """Its address, once it is ready (or only answers)."""
        port = self._port()
        command = [sys.executable, "-m", "api", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=self._environment | settings)
        self.processes.append(process)
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, "the API ended"
            try:
                return httpx.get(f"{url}/{'readyz' if ready else 'healthz'}").status_code == 200
            except httpx.TransportError:
                return False

        self._wait_until(answers)
        return url

    def killed(self, **settings: str) -> int:
        """The exit status of one that ends by itself (a failpoint's doing)."""
        command = [sys.executable, "-m", "api", "--port", str(self._port())]
        with subprocess.Popen(command, cwd=ROOT, env=self._environment | settings) as process:
            return process.wait(timeout=60)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        assert {process.wait(timeout=15) for process in self.processes} <= {0}
        self.processes.clear()


@pytest.fixture
def start_server(
    environment: dict[str, str], free_port: Callable[[], int], wait_until: Callable[..., Any]
) -> Iterator[Starter]:
    """start_server(**settings): the address of a `python -m api`."""
    starter = Starter(environment, free_port, wait_until)
    yield starter
    starter.stop()
