"""The database goes away under a running job: hangs, refuses, loses an answer, or stays away until another has the job.

Between the worker and the real Postgres stands a small proxy that can be stopped.
"""

import contextlib
import socket
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from store import job_history
from store.status import JobStatus
from worker import backlog

SUCCEEDED, FAILED = JobStatus.SUCCEEDED, JobStatus.FAILED
LEASE_SECONDS = 3.0


class Proxy:
    """Forwards TCP connections to Postgres's unix socket."""

    def __init__(self, database_url):
        parts = urlsplit(database_url)
        self._upstream = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{parts.username}@127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._lose_next_record = False
        self.lost_answers = 0
        self._sockets = []
        self._threads = []
        self._spawn(self._accept)

    def freeze(self):
        """Connections stay, nothing passes."""
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()

    def refuse(self):
        """Every connection is cut, and so is every new one."""
        self._refusing = True
        for one in list(self._sockets):
            self._cut(one)

    def accept_again(self):
        self._refusing = False

    def lose_next_record(self):
        """The next batch of metrics is committed, and its answer never arrives."""
        self._lose_next_record = True

    def close(self):
        self._flowing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.refuse()
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()

    def _spawn(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _cut(one):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._refusing:
                    self._cut(client)
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                self._sockets.append(server)
                state = {"recording": False, "lose": False}
                self._spawn(self._pump, client, server, state, True)
                self._spawn(self._pump, server, client, state, False)

    def _pump(self, source, target, state, from_client):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if from_client:
                    state["recording"] = state["recording"] or b"INSERT INTO job_metrics" in data
                    if b"COMMIT" in data:
                        state["lose"] = state["recording"] and self._lose_next_record
                        state["recording"] = False
                elif state["lose"]:
                    self._lose_next_record = False
                    self.lost_answers += 1
                    break
                target.sendall(data)
        self._cut(source)
        self._cut(target)


@pytest.fixture
def proxy(database_url):
    proxy = Proxy(database_url)
    yield proxy
    proxy.close()


@pytest.fixture
def everything_said_once(database, identity, job_of):
    def check(job_id, steps, attempts):
        with database.transaction() as session:
            metrics = job_history.metrics(session, identity, job_id)
            events = job_history.events_after(session, identity, job_id, 0, 1000)
            logs = [row.line for row in job_history.logs_after(session, identity, job_id, 0, 1000)]
        assert [row.step for row in metrics] == list(range(1, steps + 1))
        assert {row.attempt for row in metrics} == attempts
        if attempts == {1}:
            assert [event.data["step"] for event in events if event.type == "step"] == list(range(1, steps + 1))
            assert logs == [f"step {step} of {steps}" for step in range(1, steps + 1)]
            assert (job_of(job_id).attempt, job_of(job_id).crashes) == (1, 0)

    return check


def test_a_hanging_database_suspends_the_trainer_before_its_lease_ends(
    start_worker, submit, wait_for_status, wait_until, job_of, let_go, trainer_process, proxy, everything_said_once
):
    job_id = submit(steps=6, hold=4)
    start_worker(url=proxy.url)
    wait_until(lambda: job_of(job_id).step == 3)
    trainer = trainer_process()
    frozen_at = time.monotonic()
    proxy.freeze()
    wait_until(lambda: trainer.status() == psutil.STATUS_STOPPED)
    assert time.monotonic() - frozen_at < LEASE_SECONDS
    let_go(job_id)
    # Longer than the lease, so that it has run out when the database answers again.
    wait_until(lambda: time.monotonic() - frozen_at > LEASE_SECONDS + 1)
    assert trainer.status() == psutil.STATUS_STOPPED
    proxy.thaw()
    wait_for_status(job_id, SUCCEEDED, FAILED)
    everything_said_once(job_id, 6, {1})


def test_an_unreachable_database_is_waited_for(
    start_worker, submit, wait_for_status, wait_until, job_of, let_go, trainer_process, proxy, everything_said_once
):
    job_id = submit(steps=6, hold=4)
    start_worker(url=proxy.url)
    wait_until(lambda: job_of(job_id).step == 3)
    refused_at = time.monotonic()
    proxy.refuse()
    let_go(job_id)  # it ends while nobody can write that down
    trainer = trainer_process()
    wait_until(lambda: not trainer.is_running())
    wait_until(lambda: time.monotonic() - refused_at > LEASE_SECONDS + 1)
    assert job_of(job_id).step == 3
    proxy.accept_again()
    wait_for_status(job_id, SUCCEEDED, FAILED)
    everything_said_once(job_id, 6, {1})


def test_what_finds_no_room_during_an_outage_is_spooled_and_arrives_in_order(
    start_worker, submit, wait_for_status, wait_until, job_of, trainer_process, proxy, database, identity, settings,
    monkeypatch,
):  # fmt: skip
    monkeypatch.setattr(backlog, "MAX_ITEMS", 100)
    job_id = submit("flood", steps=2)  # 6000 lines, and more than a pipe holds
    start_worker(url=proxy.url, lease_seconds=60)
    wait_until(lambda: job_of(job_id).attempt == 1, poll=0.005)
    trainer = trainer_process()
    proxy.refuse()
    # It is not kept waiting: it ends, and all but what the memory holds is on the disk, without a name.
    wait_until(lambda: not trainer.is_running())
    wait_until(lambda: bytes_open_in(settings.home / "spool") > 100_000)
    assert list((settings.home / "spool").iterdir()) == []
    proxy.accept_again()
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    assert (job.status, job.attempt, job.crashes) == (SUCCEEDED, 1, 0)
    with database.transaction() as session:
        logs = [row.line for row in job_history.logs_after(session, identity, job_id, 0, 10_000)]
    assert logs == [*(f"line {number}" for number in range(6000)), "step 1 of 2", "step 2 of 2"]
    assert bytes_open_in(settings.home / "spool") == 0


def bytes_open_in(folder):
    """Of this process's files in it, with or without a name."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += link.stat().st_size if folder in link.readlink().parents else 0
    return found


def test_a_commit_whose_answer_is_lost_is_not_written_twice(
    start_worker, submit, wait_for_status, proxy, everything_said_once
):
    job_id = submit(steps=4)
    proxy.lose_next_record()
    start_worker(url=proxy.url)
    wait_for_status(job_id, SUCCEEDED, FAILED)
    assert proxy.lost_answers == 1
    everything_said_once(job_id, 4, {1})


def test_a_worker_that_comes_back_too_late_kills_its_trainer_and_writes_nothing(
    start_worker, submit, wait_for_status, wait_until, job_of, let_go, trainer_process, proxy, everything_said_once
):
    job_id = submit(steps=6, hold=4)
    start_worker("late", url=proxy.url)
    wait_until(lambda: job_of(job_id).step == 3)
    old = trainer_process()
    proxy.freeze()
    start_worker("next")
    wait_until(lambda: job_of(job_id).attempt == 2)
    # Suspended; or killed already, where the other's claim took longer than the guard has patience.
    assert stands_still(old)
    proxy.thaw()
    wait_until(lambda: not old.is_running())
    let_go(job_id)
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    assert (job.status, job.attempt, job.crashes) == (SUCCEEDED, 2, 1)
    everything_said_once(job_id, 6, {1, 2})


def stands_still(process):
    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.NoSuchProcess:
        return True


def test_a_worker_that_starts_without_a_database_waits_for_one(start_worker, submit, wait_for_status, proxy):
    proxy.refuse()
    start_worker(url=proxy.url)
    job_id = submit(steps=2)
    proxy.accept_again()
    wait_for_status(job_id, SUCCEEDED)
