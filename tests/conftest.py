"""What every test may ask for: a real Postgres and Valkey, a fresh database, a home, teams, data sets, specs.

The servers are the embedded ones, started once per test process (so once per xdist worker) and ended with it, also
when it is killed: they end with their standard input. Every test gets a database of its own, cloned in a fraction of a
second from a migrated template, and an empty database number of Valkey.
"""

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
import redis
from pydantic import SecretStr

from store import datasets, keys, schema
from store.access import Identity, Role
from store.artifacts import Artifacts
from store.database import Database
from store.ids import new_id
from store.models import Dataset
from store.settings import Settings
from tests import waiting
from trainer.spec import JobSpec

ROOT = Path(__file__).parents[1]

# The same examples on every run, and no time limit for one: a busy machine is no failure.
hypothesis.settings.register_profile("asym", deadline=None, derandomize=True)
hypothesis.settings.load_profile("asym")

_VALKEY_DATABASES = 16
_numbers = itertools.count(1)


LONG_FILES = (
    "tests/integration/client/test_up.py",
    "tests/unit/trainer/run/test_process.py",
    "tests/browser/test_dashboard.py",
    "tests/integration/schema/test_document.py",
    "tests/documentation/test_blocks.py",
    "tests/faults/test_suite.py",
    "tests/faults/test_kill.py",
    "tests/browser/test_playground.py",
    "tests/integration/openai/test_completions.py",
    "tests/faults/test_servers.py",
    "tests/integration/client/test_eval.py",
    "tests/unit/trainer/models/test_sources.py",
    "tests/unit/trainer/run/test_ranks.py",
    "tests/browser/test_sweeps.py",
    "tests/integration/client/test_train.py",
    "tests/unit/trainer/rewards/test_pool.py",
    "tests/browser/test_compare.py",
    "tests/integration/client/test_distributions.py",
    "tests/integration/openai/test_jobs.py",
)
"""Those that take longest, longest first; `--durations` tells."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process ends on one while the others have nothing left to do.

    A file goes to one process, in this order (`./dev test`; xdist by itself begins with the files of most tests).
    """
    order = {ROOT / name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@dataclass(frozen=True)
class Servers:
    """The servers of this test process."""

    database_url: str
    broker_url: str

    def database(self, name: str) -> str:
        return self.database_url.replace("/asym?", f"/{name}?")


@dataclass(frozen=True)
class TeamKey:
    """A key of a team: who it is, and its plain text."""

    identity: Identity
    plain: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    home = tmp_path_factory.mktemp("servers")
    process = subprocess.Popen(
        [sys.executable, "-m", "store.embedded", "--home", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the embedded servers did not start; see the output above"
        found = Servers(**json.loads(line))
        with psycopg.connect(found.database("postgres"), autocommit=True) as connection:
            # Test databases need not survive a power cut.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE DATABASE asym_template")
        schema.upgrade(found.database("asym_template"))
        yield found
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """A database without a schema."""
    yield from _fresh(servers, "template0")


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A migrated database that only this test sees."""
    yield from _fresh(servers, "asym_template")


def _fresh(servers: Servers, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(servers.database("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield servers.database(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=20)
    yield database
    database.dispose()


@pytest.fixture
def broker_url(servers: Servers) -> str:
    """An empty database number of Valkey."""
    number = next(_numbers) % _VALKEY_DATABASES
    with redis.Redis(unix_socket_path=servers.broker_url.removeprefix("redis+socket://"), db=number) as client:
        client.flushdb()
    return f"{servers.broker_url}?virtual_host={number}"


@pytest.fixture(scope="session")
def models_cache(pytestconfig: pytest.Config) -> Path:
    """Where builtin models are kept once made: making one takes most of a minute, so all test processes and later runs
    share them (their makers lock, verify and version the cache)."""
    assert pytestconfig.cache is not None
    return Path(pytestconfig.cache.mkdir("models"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty ASYM_HOME."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def settings(home: Path, database_url: str, broker_url: str) -> Settings:
    return Settings(
        home=home, database_url=SecretStr(database_url), broker_url=SecretStr(broker_url), artifacts=home / "artifacts"
    )


@pytest.fixture
def environment(home: Path, database_url: str, broker_url: str) -> dict[str, str]:
    """For subprocesses: this process's environment with no ASYM_* but those of this test."""
    ours = {"ASYM_HOME": str(home), "ASYM_DATABASE_URL": database_url, "ASYM_BROKER_URL": broker_url}
    return {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")} | ours


@pytest.fixture
def artifacts(home: Path) -> Artifacts:
    return Artifacts(home / "artifacts")


@pytest.fixture
def make_key(database: Database) -> Callable[..., TeamKey]:
    """make_key(role=Role.MEMBER, team_id=None): a key of that team, or of a new one."""

    def make(role: Role = Role.MEMBER, team_id: str | None = None) -> TeamKey:
        with database.transaction() as session:
            team_id = team_id or keys.create_team(session, f"team {next(_numbers)}").id
            key, plain = keys.create(session, team_id, "test", role)
            return TeamKey(Identity(key.id, team_id, role, key.member_id), plain)

    return make


@pytest.fixture
def identity(make_key: Callable[..., TeamKey]) -> Identity:
    """A member of some team."""
    return make_key().identity


@pytest.fixture
def make_dataset(database: Database, artifacts: Artifacts) -> Callable[..., Dataset]:
    """make_dataset(identity, rows=None): a stored JSONL data set; by default 64 additions for builtin/tiny-arith."""

    def make(identity: Identity, rows: list[dict[str, Any]] | None = None) -> Dataset:
        if rows is None:
            rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 18) for b in range(20, 28)]
        with artifacts.incoming() as incoming, database.transaction() as session:
            for row in rows:
                incoming.write(json.dumps(row).encode() + b"\n")
            incoming.move_to(artifacts.dataset_path(incoming.sha256, "jsonl"))
            return datasets.create(
                session,
                identity,
                name="additions",
                filename="additions.jsonl",
                format="jsonl",
                columns=sorted({column for row in rows for column in row}),
                rows=len(rows),
                bytes=incoming.bytes,
                sha256=incoming.sha256,
            )

    return make


@pytest.fixture
def make_spec() -> Callable[..., JobSpec]:
    """make_spec(dataset_id, **sections): a small job on builtin/tiny-arith, the sections given replaced."""

    def make(dataset_id: str | None = None, **sections: Any) -> JobSpec:
        spec = {
            "name": "additions",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": dataset_id or new_id("ds"), "max_prompt_tokens": 16},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "optim": {"lr": 1e-3, "prompts_per_step": 8},
            "train": {"steps": 5},
            "checkpoint": {"every": 2},
        }
        return JobSpec.model_validate(spec | sections)

    return make


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """wait_until(condition, seconds=30): the first true value of the condition; fails when there is none in time."""
    return waiting.wait_until


@pytest.fixture
def free_port() -> Callable[[], int]:
    """free_port(): a TCP port of the loopback interface that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        return port

    return find
