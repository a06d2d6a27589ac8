"""kill -9 in the middle of a run: the job goes on from its checkpoint, and its numbers do not tell that it was hit."""

import signal
import time

import psutil
import pytest

from store import jobs, workers
from store.status import JobStatus
from tests.faults.conftest import EVERY, LEASE_SECONDS, STEPS, computing, family_of, repeatable, running, trainer_of


@pytest.fixture
def went_on_as_if_nothing_happened(job_of, metrics_of, artifacts, uninterrupted):
    def check(job_id):
        job, rows = job_of(job_id), metrics_of(job_id)
        assert (job.status, job.attempt, job.crashes, job.step) == (JobStatus.SUCCEEDED, 2, 1, STEPS)
        # No step lost, doubled or out of order.
        assert [row.step for row in rows] == list(range(1, STEPS + 1))
        # The first attempt's rows end where the second one began: after a checkpoint.
        resumed_from = sum(row.attempt == 1 for row in rows)
        assert 0 < resumed_from < STEPS
        assert resumed_from % EVERY == 0
        assert [row.attempt for row in rows] == [1] * resumed_from + [2] * (STEPS - resumed_from)
        # Bit for bit the numbers of a run that nobody disturbed.
        assert {row.step: repeatable(row.values) for row in rows} == uninterrupted
        # What the spec does not keep is gone from the disk.
        left = list((artifacts.root / "jobs" / job_id).rglob("checkpoints/*"))
        assert sorted(int(path.name) for path in left) == [STEPS - EVERY, STEPS]
        return resumed_from

    return check


def test_killed_worker(start_worker, submit, steps_done, wait_until, wait_for_end, went_on_as_if_nothing_happened):
    job_id = submit()
    one = start_worker("one")
    steps_done(job_id, EVERY + 2)
    family = family_of(one)
    assert len(family) >= 3  # the guard, the trainer, its verifiers
    one.kill()
    killed_at = time.monotonic()
    wait_until(lambda: not running(family), seconds=5)
    gone_after = time.monotonic() - killed_at
    assert gone_after < 2
    start_worker("two")
    steps_done(job_id, 1, attempt=2)
    going_on_after = time.monotonic() - killed_at
    wait_for_end(job_id)
    resumed_from = went_on_as_if_nothing_happened(job_id)
    print(
        f"worker killed: {len(family)} processes gone after {gone_after:.2f} s, "
        f"the next attempt went on from step {resumed_from} after {going_on_after:.1f} s"
    )


def test_killed_trainer(start_worker, submit, steps_done, wait_for_end, went_on_as_if_nothing_happened):
    job_id = submit()
    worker = start_worker("one")
    steps_done(job_id, EVERY + 2)
    trainer_of(worker).kill()
    wait_for_end(job_id)
    went_on_as_if_nothing_happened(job_id)
    assert worker.poll() is None


def test_suspended_worker_that_wakes_too_late(
    start_worker, submit, steps_done, wait_until, job_of, metrics_of, wait_for_end, database, identity
):
    job_id = submit(steps=100_000)
    late = start_worker("late")
    steps_done(job_id, EVERY + 2)
    family = family_of(late)
    late.send_signal(signal.SIGSTOP)
    start_worker("next")
    steps_done(job_id, 1, attempt=2)
    # Not one of them computes beside the next attempt: the guard has seen to that, its worker could not.
    (guard,) = psutil.Process(late.pid).children()
    assert not computing(process for process in family if process != guard)
    # Nor do they keep its memory for ever: the guard gives up hope, though the worker has not woken.
    wait_until(lambda: not running(family), seconds=3 * LEASE_SECONDS)
    late.send_signal(signal.SIGCONT)
    steps_done(job_id, EVERY, attempt=2)
    with database.transaction() as session:
        jobs.request_cancel(session, identity, job_id)
    assert wait_for_end(job_id).status is JobStatus.CANCELLED
    rows = metrics_of(job_id)
    attempts = [row.attempt for row in rows]
    assert [row.step for row in rows] == list(range(1, len(rows) + 1))
    # Had the late one written anything after it woke, an old row would stand among the new ones.
    assert attempts == sorted(attempts)
    assert attempts.count(1) % EVERY == 0
    assert attempts.count(2) >= EVERY
    assert late.poll() is None


def test_terminated_worker_checkpoints_and_gives_the_job_back(
    start_worker, submit, steps_done, job_of, database, artifacts, metrics_of
):
    job_id = submit(steps=100_000)
    worker = start_worker("one")
    steps_done(job_id, 2)
    family = family_of(worker)
    worker.terminate()
    assert worker.wait(timeout=25) == 0
    assert not running(family)
    job = job_of(job_id)
    assert (job.status, job.attempt, job.crashes) == (JobStatus.QUEUED, 1, 0)
    last = metrics_of(job_id)[-1].step
    assert (artifacts.attempt_dir(job_id, 1) / "checkpoints" / str(last) / "manifest.json").is_file()
    with database.transaction() as session:
        (row,) = workers.list_all(session, include_stopped=True)
    assert (row.name, row.pid, row.gpus, row.cpu_slots) == ("one", worker.pid, 0, 1)
    assert row.stopped_at is not None
