import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from api.__main__ import Server
from api.main import create_app
from client import Asym
from store import leases, workers
from store.access import Role
from store.database import Database
from store.settings import Settings
from store.status import JobStatus

DEADLINE = 30.0
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def without_service(tmp_path: Path, models_cache: Path) -> dict[str, str]:
    """For commands without a service: a home of their own with the builtin models in it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models-cache").symlink_to(models_cache)
    rest = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    return {**rest, "ASYM_HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """write_spec(steps=2): the spec file of a small job, its data in a folder beside it."""

    def write(steps: int = 2) -> Path:
        (tmp_path / "sub").mkdir()
        for name in ("additions-train.jsonl", "additions-eval.jsonl"):
            (tmp_path / "sub" / name).write_bytes((EXAMPLES / name).read_bytes())
        spec = {
            "name": "short",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "sub/additions-train.jsonl"},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "optim": {"lr": 1e-3, "prompts_per_step": 8},
            "train": {"steps": steps},
            "eval": [{"name": "held-out", "data": "sub/additions-eval.jsonl", "every": 1000, "max_problems": 16}],
            "checkpoint": {"every": 1},
        }
        path = tmp_path / "spec.yaml"
        path.write_text(json.dumps(spec))
        return path

    return write


@pytest.fixture
def api_url(settings: Settings, free_port: Callable[[], int]) -> Iterator[str]:
    """The real API over a real socket; in a thread of this process, since imports take most of a process's start."""
    app = create_app(settings)
    server = Server(uvicorn.Config(app, port=(port := free_port()), log_config=None), app.state.api)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.fixture
def key(make_key: Callable[..., Any]) -> str:
    """An admin's."""
    plain: str = make_key(Role.ADMIN).plain
    return plain


@pytest.fixture
def asym(api_url: str, key: str, wait_until: Callable[..., object]) -> Iterator[Asym]:
    """An admin's connection to the API."""
    with Asym(api_url, key) as asym:
        wait_until(asym.ready, DEADLINE)
        yield asym


@pytest.fixture
def additions(tmp_path: Path) -> Path:
    path = tmp_path / "additions.jsonl"
    path.write_text("".join(f'{{"prompt": "{a}+11=", "answer": "{a + 11}"}}\n' for a in range(10, 74)))
    return path


@pytest.fixture
def spec(asym: Asym, additions: Path, make_spec: Callable[..., Any]) -> dict[str, Any]:
    resolved: dict[str, Any] = make_spec(asym.upload_dataset(additions)["id"]).model_dump(mode="json")
    return resolved


class Work:
    """Plays a worker on one job."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as session:
            worker = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=1, version="0")
            self._worker_id = worker.id
        with database.transaction() as session:
            claim = leases.claim(session, self._worker_id, 0, 1, 60)
            assert claim is not None
            self.job_id, self.attempt = claim.job_id, claim.attempt
        self._batch = 0

    def record(self, *happened: Any, lines: list[str] | None = None) -> None:
        self._batch += 1
        with self._database.transaction() as session:
            leases.record(session, self.job_id, self.attempt, list(happened), lines or [], batch=self._batch)

    def finish(self, status: JobStatus) -> None:
        with self._database.transaction() as session:
            leases.finish(session, self.job_id, self.attempt, status)
