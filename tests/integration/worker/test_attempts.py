"""What becomes of a job, for each way in which its trainer may behave."""

import errno
import itertools
import json
import os
import threading
import time

import psutil
import pytest
from sqlalchemy import func, text, update

from store import job_history, jobs, workers
from store.models import Job
from store.status import JobStatus
from worker.preparation import Preparation

QUEUED, RUNNING, PAUSED = JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED
CANCELLED, SUCCEEDED, FAILED = JobStatus.CANCELLED, JobStatus.SUCCEEDED, JobStatus.FAILED


@pytest.fixture
def history(database, identity):
    class History:
        def __init__(self, job_id):
            with database.transaction() as session:
                self.metrics = job_history.metrics(session, identity, job_id)
                self.events = job_history.events_after(session, identity, job_id, 0, 1000)
                self.logs = [row.line for row in job_history.logs_after(session, identity, job_id, 0, 10_000)]
                self.rollouts = job_history.rollouts(session, identity, job_id)
                self.checkpoints = job_history.checkpoints(session, identity, job_id)

        @property
        def steps(self):
            return [row.step for row in self.metrics]

        @property
        def states(self):
            return [event.data["status"] for event in self.events if event.type == "state"]

    return History


@pytest.fixture
def as_member(database, identity):
    """as_member(request, job_id): what a member of the job's team asks for, e.g. jobs.request_cancel."""

    def ask(request, job_id):
        with database.transaction() as session:
            request(session, identity, job_id)

    return ask


@pytest.fixture
def step_reached(job_of, wait_until):
    def wait(job_id, step):
        wait_until(lambda: job_of(job_id).step >= step)

    return wait


def test_a_run_from_the_queue_to_its_end(start_worker, submit, wait_for_status, history, artifacts):
    job_id = submit(steps=5)
    start_worker()
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    seen = history(job_id)
    assert (job.status, job.attempt, job.crashes, job.step) == (SUCCEEDED, 1, 0, 5)
    assert seen.steps == [1, 2, 3, 4, 5]
    assert [row.values["policy/loss"] for row in seen.metrics] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert seen.states == ["queued", "running", "succeeded"]
    assert [event.data["step"] for event in seen.events if event.type == "step"] == [1, 2, 3, 4, 5]
    assert seen.logs == [f"step {step} of 5" for step in range(1, 6)]
    assert [rollout.completion for rollout in seen.rollouts] == ["\ufffd two"] * 5
    # Retention: three were written, the spec keeps two, on disk and in the database.
    assert [row.step for row in seen.checkpoints if row.deleted_at is None] == [4, 5]
    kept = artifacts.attempt_dir(job_id, 1) / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == ["4", "5"]


def test_the_trainer_gets_files_and_no_secrets(start_worker, submit, wait_for_status, artifacts, settings):
    job_id = submit(steps=1)
    start_worker()
    wait_for_status(job_id, SUCCEEDED)
    run_dir = artifacts.attempt_dir(job_id, 1)
    environment = json.loads((run_dir / "environment.json").read_text())
    assert not [name for name in environment if name.startswith("ASYM_")]
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    arguments = json.loads((run_dir / "arguments.json").read_text())
    (data,) = [given for flag, given in itertools.pairwise(arguments) if flag == "--data"]
    reference, _, path = data.partition("=")
    assert reference == json.loads((run_dir / "spec.yaml").read_text())["data"]["train"]
    assert path.startswith(str(artifacts.root / "datasets"))
    assert arguments[arguments.index("--cache-dir") + 1] == str(settings.models_cache)
    assert "--supervised" in arguments


def test_a_gpu_job_gets_its_gpus_and_a_cpu_job_none(start_worker, submit, wait_for_status, artifacts):
    on_gpu = submit(steps=1, resources={"gpus": "auto"})
    on_cpu = submit(steps=1, resources={"gpus": 0})
    on_both = submit(steps=1, resources={"gpus": 2})
    start_worker(gpus=["3", "5"])
    for job_id, visible in ((on_gpu, {"3"}), (on_cpu, {""}), (on_both, {"3", "5"})):
        wait_for_status(job_id, SUCCEEDED)
        environment = json.loads((artifacts.attempt_dir(job_id, 1) / "environment.json").read_text())
        assert set(environment["CUDA_VISIBLE_DEVICES"].split(",")) == visible


def test_garbage_and_endless_lines_harm_nothing(start_worker, submit, wait_for_status, history):
    job_id = submit("garbage")
    start_worker()
    before = psutil.Process().memory_info().rss
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    grown = psutil.Process().memory_info().rss - before
    seen = history(job_id)
    assert job.status is SUCCEEDED
    assert seen.steps == [1, 2, 3, 4]
    assert "not an event" in seen.logs
    assert '{"type": "step"}' in seen.logs
    assert "\ufffd\ufffd not text" in seen.logs
    assert "100%" in seen.logs
    assert any(line.startswith("yyy") and "bytes cut" in line and len(line) < 20_000 for line in seen.logs)
    (warning,) = [event for event in seen.events if event.data.get("code") == "event_too_long"]
    assert "41943040 bytes" in warning.message
    assert grown < 200 << 20


def test_a_flood_of_lines_arrives_whole_and_in_order(start_worker, submit, wait_for_status, history):
    job_id = submit("flood", steps=2)
    start_worker()
    wait_for_status(job_id, SUCCEEDED)
    assert history(job_id).logs[:6000] == [f"line {number}" for number in range(6000)]


def test_a_user_error_fails_at_once_and_keeps_the_checkpoint(start_worker, submit, wait_for_status, history, artifacts):
    job_id = submit("user-error")
    start_worker()
    job = wait_for_status(job_id, FAILED)
    assert (job.attempt, job.crashes) == (1, 0)
    assert job.failure == {
        "kind": "user",
        "code": "loss_not_finite",
        "message": "NaN in step 3",
        "evidence": ["nan"],
    }
    assert history(job_id).steps == [1, 2]
    assert (artifacts.attempt_dir(job_id, 1) / "checkpoints" / "2").is_dir()


def test_a_crash_is_tried_again_from_the_registered_checkpoint(
    start_worker, submit, wait_for_status, history, artifacts
):
    job_id = submit("segfault", steps=5)
    # Newer than any registered one, and never registered: must not be started from.
    (artifacts.attempt_dir(job_id, 1) / "checkpoints" / "4").mkdir(parents=True)
    start_worker()
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    seen = history(job_id)
    assert (job.status, job.attempt, job.crashes) == (SUCCEEDED, 2, 1)
    assert seen.steps == [1, 2, 3, 4, 5]
    assert [row.attempt for row in seen.metrics] == [1, 1, 2, 2, 2]
    assert seen.states == ["queued", "running", "queued", "running", "succeeded"]
    (again,) = [event for event in seen.events if event.data.get("crashed")]
    assert "killed by SIGSEGV" in again.message
    evidence = again.data["evidence"]
    assert evidence[:3] == ["step 1 of 5", "step 2 of 5", "Fatal Python error: Segmentation fault"]
    assert evidence[-1] == "the trainer was killed by SIGSEGV"
    arguments = json.loads((artifacts.attempt_dir(job_id, 2) / "arguments.json").read_text())
    assert arguments[-2:] == ["--resume", str(artifacts.attempt_dir(job_id, 1) / "checkpoints" / "2")]
    # What the first attempt left is gone, whether the database knew of it or not.
    assert not any((artifacts.attempt_dir(job_id, 1) / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("poison", "the trainer was killed by SIGABRT"),
        ("silent", "the trainer exited with status 0"),
        ("infrastructure-error", "operating_system: disk full"),
    ],
)
def test_what_cannot_be_run_fails_after_its_attempts_with_evidence(
    start_worker, submit, wait_for_status, behaviour, reason
):
    job_id = submit(behaviour, resources={"max_attempts": 3})
    start_worker()
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    assert (job.status, job.attempt, job.crashes) == (FAILED, 3, 3)
    assert job.failure["kind"] == "infrastructure"
    assert job.failure["message"].startswith(reason)
    assert job.failure["evidence"][-1].startswith("the trainer")


def test_a_full_disk_pauses_the_job_with_its_reason_and_costs_no_attempt(
    start_worker, submit, wait_for_status, history, artifacts, database, identity
):
    job_id = submit("disk-full", steps=4, resources={"max_attempts": 1})
    full = artifacts.root / "jobs" / job_id / "full"
    full.touch()
    start_worker()
    job = wait_for_status(job_id, PAUSED, FAILED)
    assert (job.status, job.crashes, job.worker_id) == (PAUSED, 0, None)
    assert job.pause_reason == {"code": "disk_full", "message": "[Errno 28] No space left on device"}
    (paused,) = [event for event in history(job_id).events if event.data.get("status") == "paused"]
    assert (paused.level, paused.message) == ("warning", "paused: [Errno 28] No space left on device")
    full.unlink()
    with database.transaction() as session:
        assert jobs.resume(session, identity, job_id).pause_reason is None
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    assert (job.status, job.attempt, job.crashes, job.pause_reason) == (SUCCEEDED, 2, 0, None)
    assert [row.attempt for row in history(job_id).metrics] == [1, 1, 2, 2]


@pytest.mark.parametrize("wish", [jobs.request_cancel, jobs.request_pause])
def test_a_full_disk_and_a_wish(
    start_worker, submit, wait_for_status, step_reached, let_go, artifacts, as_member, wish
):
    job_id = submit("disk-full", steps=4, hold=3)
    (artifacts.root / "jobs" / job_id / "full").touch()
    supervisor = start_worker()
    step_reached(job_id, 2)
    as_member(wish, job_id)
    let_go(job_id)
    supervisor.look()
    job = wait_for_status(job_id, PAUSED, CANCELLED, FAILED)
    assert job.status is (CANCELLED if wish is jobs.request_cancel else PAUSED)


def test_a_disk_too_full_to_start_on_pauses_too(start_worker, submit, wait_for_status, artifacts, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    job_id = submit(resources={"max_attempts": 1})
    with monkeypatch.context() as patched:
        patched.setattr(Preparation, "prepare", full)
        start_worker()
        job = wait_for_status(job_id, PAUSED, FAILED)
    assert job.status is PAUSED
    assert job.pause_reason["code"] == "disk_full"
    assert os.strerror(errno.EDQUOT) in job.pause_reason["message"]


def test_a_damaged_checkpoint_is_passed_over(start_worker, submit, wait_for_status, history):
    job_id = submit("damaged-checkpoint", steps=4, every=1)
    start_worker()
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    # Crashed in step 3; the checkpoint of 2 turns out to be damaged; that of 1 is whole.
    assert (job.status, job.attempt, job.crashes) == (SUCCEEDED, 3, 2)
    assert [row.attempt for row in history(job_id).metrics] == [1, 3, 3, 3]


def test_missing_files_are_the_platforms_fault(start_worker, submit, wait_for_status, artifacts):
    job_id = submit(resources={"max_attempts": 1})
    for path in (artifacts.root / "datasets").rglob("*.jsonl"):
        path.unlink()
    start_worker()
    job = wait_for_status(job_id, FAILED)
    assert job.failure["kind"] == "infrastructure"
    assert "does not exist" in job.failure["message"]


def test_models_are_found_by_the_worker(start_worker, submit, wait_for_status, artifacts):
    first = submit(steps=2, every=1)
    start_worker()
    wait_for_status(first, SUCCEEDED)
    (artifacts.attempt_dir(first, 1) / "checkpoints" / "2" / "model").mkdir()
    second = submit(steps=1, model={"id": f"job/{first}@2"})
    third = submit(steps=1, model={"id": "path/none"}, resources={"max_attempts": 1})
    wait_for_status(second, SUCCEEDED)
    arguments = json.loads((artifacts.attempt_dir(second, 1) / "arguments.json").read_text())
    model_dir = arguments[arguments.index("--model-dir") + 1]
    assert model_dir == str(artifacts.attempt_dir(first, 1) / "checkpoints" / "2" / "model")
    assert "ASYM_MODELS_DIR" in wait_for_status(third, FAILED).failure["message"]


def test_cancel_ends_a_trainer_that_listens(
    start_worker, submit, wait_for_status, step_reached, database, identity, history
):
    job_id = submit(hold=3)
    start_worker()
    step_reached(job_id, 2)
    with database.transaction() as session:
        jobs.request_cancel(session, identity, job_id)
    job = wait_for_status(job_id, CANCELLED)
    assert job.crashes == 0
    assert history(job_id).steps == [1, 2, 3]  # the step in hand was finished, and nothing it said was lost


def test_cancel_ends_a_trainer_that_does_not_listen(
    start_worker, submit, wait_for_status, step_reached, database, identity
):
    job_id = submit("deaf", hold=3)
    supervisor = start_worker(lease_seconds=15)
    step_reached(job_id, 2)
    with database.transaction() as session:
        jobs.request_cancel(session, identity, job_id)
    asked_at = time.monotonic()
    supervisor.look()  # the doorbell
    wait_for_status(job_id, CANCELLED)
    assert time.monotonic() - asked_at < 6


def test_pause_frees_the_slot_and_resume_goes_on_in_the_same_job(
    start_worker, submit, wait_for_status, step_reached, let_go, database, identity, history
):
    job_id = submit(steps=6, hold=4, every=5)
    start_worker()
    step_reached(job_id, 3)
    with database.transaction() as session:
        jobs.request_pause(session, identity, job_id)
    job = wait_for_status(job_id, PAUSED)
    assert (job.attempt, job.crashes, job.worker_id) == (1, 0, None)
    let_go(job_id)
    other = submit()
    wait_for_status(other, SUCCEEDED)
    with database.transaction() as session:
        jobs.resume(session, identity, job_id)
    job = wait_for_status(job_id, SUCCEEDED)
    seen = history(job_id)
    assert (job.attempt, job.crashes) == (2, 0)
    assert [row.attempt for row in seen.metrics] == [1, 1, 1, 1, 2, 2]
    assert seen.states == ["queued", "running", "pausing", "paused", "queued", "running", "succeeded"]


def test_cancel_overtakes_a_pause(start_worker, submit, wait_for_status, step_reached, database, identity):
    job_id = submit("deaf", hold=3)
    supervisor = start_worker()
    step_reached(job_id, 2)
    for request in (jobs.request_pause, jobs.request_cancel):
        with database.transaction() as session:
            request(session, identity, job_id)
        supervisor.look()
    wait_for_status(job_id, CANCELLED)


def test_slots_bound_what_runs_at_once(start_worker, submit, wait_for_status, step_reached, let_go, job_of):
    first, second, third = (submit(hold=2) for _ in range(3))
    start_worker(cpu_slots=2)
    step_reached(first, 1)
    step_reached(second, 1)
    assert job_of(third).status is QUEUED
    for job_id in (first, second, third):
        let_go(job_id)
    for job_id in (first, second, third):
        wait_for_status(job_id, SUCCEEDED)


def test_leaving_gives_the_job_back_without_counting_a_crash(
    start_worker, submit, wait_for_status, step_reached, let_go, job_of, history
):
    job_id = submit(steps=6, hold=4, every=5)
    one = start_worker("one")
    step_reached(job_id, 3)
    one.drain(threading.Event())
    job = job_of(job_id)
    assert (job.status, job.attempt, job.crashes) == (QUEUED, 1, 0)
    let_go(job_id)
    start_worker("two")
    wait_for_status(job_id, SUCCEEDED)
    assert [row.attempt for row in history(job_id).metrics] == [1, 1, 1, 1, 2, 2]


def test_a_step_that_takes_longer_than_the_drain_is_killed_and_costs_no_attempt(
    start_worker, submit, wait_for_status, step_reached, let_go, job_of, history
):
    job_id = submit("deaf", steps=6, hold=4, every=2, resources={"max_attempts": 1})
    one = start_worker("one", drain_seconds=0.5)
    step_reached(job_id, 3)
    began = time.monotonic()
    one.drain(threading.Event())
    assert 0.5 <= time.monotonic() - began < 10
    job = job_of(job_id)
    assert (job.status, job.attempt, job.crashes) == (QUEUED, 1, 0)
    let_go(job_id)
    start_worker("two")
    job = wait_for_status(job_id, SUCCEEDED, FAILED)
    assert (job.status, job.crashes) == (SUCCEEDED, 0)
    assert [row.attempt for row in history(job_id).metrics] == [1, 1, 2, 2, 2, 2]


def test_a_trainer_that_says_nothing_is_told_of_once(
    start_worker, submit, wait_for_status, step_reached, let_go, wait_until, history
):
    job_id = submit(hold=3)
    start_worker(silence_seconds=1.0)
    step_reached(job_id, 2)

    def told():
        """Since the second step: it may be slow to start, too."""
        events = history(job_id).events
        (second,) = [event.id for event in events if event.type == "step" and event.data["step"] == 2]
        return [event for event in events if event.data.get("code") == "trainer_silent" and event.id > second]

    (event,) = wait_until(told)
    assert event.level == "warning"
    assert "has said nothing for 1 s" in event.message
    let_go(job_id)
    wait_for_status(job_id, SUCCEEDED)
    assert len(told()) == 1


def test_leaving_in_a_hurry_gives_the_job_back_too(start_worker, submit, wait_for_status, step_reached, job_of):
    job_id = submit("deaf", hold=4)
    one = start_worker("one")
    step_reached(job_id, 3)
    hurry = threading.Event()
    hurry.set()
    before = time.monotonic()
    one.drain(hurry)
    assert time.monotonic() - before < 5
    job = job_of(job_id)
    assert (job.status, job.crashes) == (QUEUED, 0)


def test_a_trainer_killed_from_outside_is_reported_by_its_signal(
    start_worker, submit, wait_for_status, step_reached, let_go, trainer_process, history
):
    job_id = submit(steps=4, hold=4)
    start_worker()
    step_reached(job_id, 3)
    trainer_process().kill()
    let_go(job_id)
    job = wait_for_status(job_id, SUCCEEDED)
    assert (job.attempt, job.crashes) == (2, 1)
    (again,) = [event for event in history(job_id).events if event.data.get("crashed")]
    assert "killed by SIGKILL" in again.message


def test_max_runtime_ends_a_run_after_a_checkpoint(start_worker, submit, wait_for_status, history):
    job_id = submit(steps=9, hold=4, every=9, resources={"max_runtime": 3.0})
    start_worker()
    job = wait_for_status(job_id, FAILED, SUCCEEDED)
    assert (job.failure["kind"], job.failure["code"]) == ("user", "max_runtime")
    assert job.failure["message"] == (
        "resources.max_runtime of 3 s is used up; a retry goes on after step 4, with as much time again"
    )
    assert [row.step for row in history(job_id).checkpoints] == [4]
    assert (job.attempt, job.crashes) == (1, 0)
    assert job.used_seconds >= 3.0


def test_max_runtime_is_of_all_attempts_and_waiting_does_not_count(
    start_worker, submit, wait_for_status, database, artifacts
):
    spent, left = (submit(steps=2, resources={"max_runtime": 3600}) for _ in range(2))
    with database.transaction() as session:
        used = update(Job).values(started_at=func.clock_timestamp() - text("interval '9 days'"))
        session.execute(used.where(Job.id == spent).values(used_seconds=3600.5))
        session.execute(used.where(Job.id == left).values(used_seconds=1800))
    start_worker()
    assert wait_for_status(left, FAILED, SUCCEEDED).status is SUCCEEDED
    failure = wait_for_status(spent, FAILED, SUCCEEDED).failure
    assert (failure["code"], failure["message"]) == ("max_runtime", "resources.max_runtime of 3600 s is used up")
    assert not artifacts.attempt_dir(spent, 1).exists(), "no trainer was started for it"


def test_a_worker_that_leaves_says_so(start_worker, submit, step_reached, database, wait_until, let_go):
    job_id = submit(name="deaf", steps=4, hold=3)
    supervisor = start_worker(labels=["h100"])
    step_reached(job_id, 2)

    def states():
        with database.transaction() as session:
            found = workers.list_all(session)
            return [
                (worker.labels, state) for worker in found for state in workers.states(session, [worker.id]).values()
            ]

    assert states() == [(["h100"], "alive")]
    hurry = threading.Event()
    leaving = threading.Thread(target=supervisor.drain, args=(hurry,))
    leaving.start()
    wait_until(lambda: states() == [(["h100"], "draining")])
    hurry.set()
    leaving.join()
    assert states() == []
