"""The real stack for the fault tests: `python -m worker` with the real trainer, and servers that may be killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from store import job_history, jobs
from store.artifacts import Artifacts
from store.status import JobStatus

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 4
STEPS = 30
EVERY = 5


@pytest.fixture
def worker_environment(environment, home, models_cache):
    (home / "models-cache").symlink_to(models_cache)
    return environment | {
        "ASYM_LEASE_SECONDS": str(LEASE_SECONDS),
        "ASYM_SWEEP_SECONDS": "0.5",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture
def start_worker(worker_environment, tmp_path, uninterrupted):
    """`uninterrupted` has made the model, so that no run of a test has to wait for it.

    start_worker(name, **environment): a real worker process; it and all below it are gone at the end of the test."""
    started = []

    def start(name, **environment):
        with (tmp_path / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", "--name", name],
                env=worker_environment | environment,
                cwd=ROOT,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
    for log in sorted(tmp_path.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text()}")


def _data_rows():
    return [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 18) for b in range(20, 28)]


def _sections(steps):
    return {
        "rollout": {"group_size": 4, "max_new_tokens": 4},
        "optim": {"lr": 1e-3, "prompts_per_step": 8},
        "train": {"steps": steps},
        "checkpoint": {"every": EVERY, "keep_last": 2},
        "diagnostics": {"every": 2, "rollout_groups": 2},
        # Verifies in subprocesses, grandchildren of the worker; a busy machine must not turn one into a timeout.
        "reward": {"kind": "math", "timeout_seconds": 60},
        "seed": 7,
    }


@pytest.fixture
def submit(database, identity, make_dataset, make_spec):
    """submit(steps=STEPS): a queued job on builtin/tiny-arith, the same each time."""

    def submit(steps=STEPS, **sections):
        dataset = make_dataset(identity, _data_rows())
        spec = make_spec(dataset.id, **(_sections(steps) | sections))
        with database.transaction() as session:
            return jobs.create(session, identity, spec)[0].id

    return submit


@pytest.fixture(scope="session")
def uninterrupted(models_cache, tmp_path_factory):
    """Step -> metrics of the same run by the trainer alone, without a service and in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _data_rows()))
    spec = {
        "name": "additions",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": "rows", "max_prompt_tokens": 16},
    }
    (folder / "spec.yaml").write_text(json.dumps(spec | _sections(STEPS)))
    result = subprocess.run(
        [
            *(sys.executable, "-m", "trainer", "spec.yaml", "--run-dir", "run", "--data", "rows=rows.jsonl"),
            *("--cache-dir", str(models_cache)),
        ],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
        check=True,
    )
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return {event["step"]: repeatable(event["metrics"]) for event in events if event["type"] == "step"}


def repeatable(metrics):
    """Without what depends on the machine's mood."""
    return {key: value for key, value in metrics.items() if not key.startswith("perf/")}


@pytest.fixture
def job_of(database, identity):
    def get(job_id):
        with database.transaction() as session:
            return jobs.get(session, identity, job_id)

    return get


@pytest.fixture
def metrics_of(database, identity):
    def get(job_id):
        with database.transaction() as session:
            return job_history.metrics(session, identity, job_id)

    return get


@pytest.fixture
def wait_for_end(job_of, wait_until):
    def wait(job_id, seconds=200):
        ended = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
        return wait_until(lambda: (job := job_of(job_id)).status in ended and job, seconds=seconds)

    return wait


@pytest.fixture
def steps_done(metrics_of, wait_until):
    """steps_done(job_id, count, attempt=1): waits until that attempt has recorded so many steps."""

    def wait(job_id, count, attempt=1):
        wait_until(lambda: sum(row.attempt == attempt for row in metrics_of(job_id)) >= count, seconds=200)

    return wait


def family_of(worker):
    """The processes below a worker."""
    return psutil.Process(worker.pid).children(recursive=True)


def trainer_of(worker):
    """The trainer below a worker; its guard is between them."""
    (guard,) = psutil.Process(worker.pid).children()
    (trainer,) = guard.children()
    return trainer


def running(processes):
    """Those of them that still run."""
    return [process for process in processes if status_of(process) not in {None, psutil.STATUS_ZOMBIE}]


def computing(processes):
    """Those of them that run and do not stand still."""
    return [process for process in running(processes) if status_of(process) not in {None, psutil.STATUS_STOPPED}]


def status_of(process):
    """None when it is gone."""
    try:
        return process.status() if process.is_running() else None
    except psutil.NoSuchProcess:
        return None


@pytest.fixture
def artifacts(home):
    return Artifacts(home / "artifacts")
