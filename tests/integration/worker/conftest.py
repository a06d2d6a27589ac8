"""A supervisor in the test's own process, running scripted trainers as real subprocesses."""

import os
import sys
import threading
from pathlib import Path

import psutil
import pytest

from store import jobs
from store.artifacts import Artifacts
from store.database import Database
from worker.preparation import Preparation
from worker.supervisor import Registration, Supervisor

SCRIPTED = (sys.executable, "-P", str(Path(__file__).with_name("scripted_trainer.py")))
LEASE_SECONDS = 3.0


@pytest.fixture
def start_worker(settings, database_url):
    """start_worker(name="one", trainer=SCRIPTED, **options): a running Supervisor; killed at the end of the test."""
    started = []

    def start(
        name="one",
        trainer=SCRIPTED,
        url=database_url,
        gpus=(),
        cpu_slots=1,
        lease_seconds=LEASE_SECONDS,
        drain_seconds=20.0,
        silence_seconds=900.0,
        labels=(),
        home_settings=None,
        measured=None,
    ):
        database = Database(url, pool_size=8)
        changed = (home_settings or settings).model_copy(update={"silence_seconds": silence_seconds})
        supervisor = Supervisor(
            database,
            Preparation(
                changed, Artifacts(changed.artifacts), database, os.environ | {"ASYM_DATABASE_URL": url}, trainer
            ),
            Registration(name=name, host="here", pid=os.getpid(), version="0", labels=labels),
            gpus=gpus,
            cpu_slots=cpu_slots,
            lease_seconds=lease_seconds,
            sweep_seconds=0.2,
            drain_seconds=drain_seconds,
            ring=lambda: None,
            measured=measured,
        )
        supervisor.start()
        started.append((supervisor, database))
        return supervisor

    yield start
    at_once = threading.Event()
    at_once.set()
    for supervisor, database in started:
        supervisor.drain(at_once)
        database.dispose()
    assert not trainers_below(psutil.Process())


def trainers_below(process):
    """The trainer processes, guards excluded, below this one."""
    found = []
    for child in process.children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.Error:  # gone, or a zombie
            continue
        if any(part.endswith("scripted_trainer.py") for part in command[:3]):
            found.append(child)
    return found


@pytest.fixture
def trainer_process(wait_until):
    """trainer_process(): the one trainer that runs now."""

    def find():
        (process,) = wait_until(lambda: trainers_below(psutil.Process()))
        return process

    return find


@pytest.fixture
def submit(database, identity, make_dataset, make_spec, artifacts):
    """submit(name, steps=4, hold=None, **sections): a queued job whose trainer waits before step `hold`."""

    def submit(name="plain", steps=4, hold=None, every=2, **sections):
        dataset = make_dataset(identity)
        spec = make_spec(
            dataset.id, name=name, train={"steps": steps}, checkpoint={"every": every, "keep_last": 2}, **sections
        )
        with database.transaction() as session:
            job, _ = jobs.create(session, identity, spec)
            # Before the job can be seen by any worker.
            job_dir = artifacts.root / "jobs" / job.id
            job_dir.mkdir(parents=True)
            if hold is not None:
                (job_dir / f"hold-{hold}").touch()
        return job.id

    return submit


@pytest.fixture
def job_of(database, identity):
    """job_of(job_id): its row as it is now."""

    def get(job_id):
        with database.transaction() as session:
            return jobs.get(session, identity, job_id)

    return get


@pytest.fixture
def wait_for_status(job_of, wait_until):
    def wait(job_id, *statuses, seconds=30):
        return wait_until(lambda: (job := job_of(job_id)).status in statuses and job, seconds=seconds)

    return wait


@pytest.fixture
def let_go(artifacts):
    """let_go(job_id): the trainer waits no longer."""

    def let_go(job_id):
        for hold in (artifacts.root / "jobs" / job_id).glob("hold-*"):
            hold.unlink()

    return let_go
