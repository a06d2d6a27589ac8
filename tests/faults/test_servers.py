"""Postgres and Valkey go away under the real worker: the run goes on, its rows arrive, the doorbell rings again."""

import signal
import time

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from store import doorbell, schema
from store.database import Database
from store.settings import Settings
from store.status import JobStatus
from tests.faults.conftest import STEPS, repeatable
from tests.faults.suite.stack import OwnServers

OUTAGE_SECONDS = 10


@pytest.fixture
def own_servers(tmp_path):
    home = tmp_path / "servers"
    home.mkdir(mode=0o700)
    servers = OwnServers(home)
    schema.upgrade(servers.urls["database_url"])
    yield servers
    servers.close()


# The fixtures of tests/conftest.py, on the servers of this test.


@pytest.fixture
def database_url(own_servers):
    return own_servers.urls["database_url"]


@pytest.fixture
def broker_url(own_servers):
    return own_servers.urls["broker_url"]


@pytest.fixture
def database(database_url):
    database = Database(database_url, pool_size=20)
    yield database
    database.dispose()


@pytest.fixture
def settings(home, database_url, broker_url):
    return Settings(
        home=home, database_url=SecretStr(database_url), broker_url=SecretStr(broker_url), artifacts=home / "artifacts"
    )


def answers(database):
    try:
        database.ping()
    except OperationalError:
        return False
    return True


def test_both_servers_gone_in_the_middle_of_a_run(
    own_servers, start_worker, submit, steps_done, wait_until, wait_for_end, metrics_of, database, uninterrupted
):
    job_id = submit()
    worker = start_worker("one")
    steps_done(job_id, 2)
    own_servers.signal("postgres", signal.SIGSTOP)
    own_servers.signal("valkey", signal.SIGKILL)
    gone_at = time.monotonic()
    wait_until(lambda: time.monotonic() - gone_at > OUTAGE_SECONDS)
    own_servers.signal("postgres", signal.SIGKILL)  # and what it knew of the connections is gone too
    wait_until(lambda: answers(database), seconds=60)
    job = wait_for_end(job_id)
    assert (job.status, job.attempt, job.crashes) == (JobStatus.SUCCEEDED, 1, 0)
    # All of them, each once, and the run itself never noticed.
    rows = metrics_of(job_id)
    assert [row.step for row in rows] == list(range(1, STEPS + 1))
    assert {row.step: repeatable(row.values) for row in rows} == uninterrupted
    assert worker.poll() is None


def test_without_a_broker_work_starts_within_a_sweep(own_servers, start_worker, submit, artifacts, wait_until, job_of):
    worker = start_worker("one", ASYM_SWEEP_SECONDS="1")
    first = submit(resources={"max_attempts": 1})
    for path in (artifacts.root / "datasets").rglob("*.jsonl"):
        path.unlink()  # so that the job ends without a trainer having to start
    wait_until(lambda: job_of(first).status is JobStatus.FAILED)
    own_servers.signal("valkey", signal.SIGSTOP)
    second = submit(steps=1)
    submitted_at = time.monotonic()
    wait_until(lambda: job_of(second).attempt == 1, poll=0.01)
    assert time.monotonic() - submitted_at < 1 + 1  # a sweep, and a busy machine's due
    assert worker.poll() is None


def test_the_doorbell_is_heard_again_after_the_broker_was_killed(
    own_servers, start_worker, submit, artifacts, wait_until, job_of, broker_url
):
    def ring_until_heard():
        job_id = submit(resources={"max_attempts": 1})
        for path in (artifacts.root / "datasets").rglob("*.jsonl"):
            path.unlink()  # so that the job ends without a trainer having to start

        def heard():
            doorbell.ring(broker_url)
            return job_of(job_id).status is JobStatus.FAILED

        wait_until(heard, poll=0.2)

    # It looks by itself when it starts, and then for a long time only when told to.
    worker = start_worker("one", ASYM_SWEEP_SECONDS="1000")
    ring_until_heard()
    ring_until_heard()
    own_servers.signal("valkey", signal.SIGKILL)
    ring_until_heard()
    assert worker.poll() is None
