"""Holding a job: the fence, renewing, the end of an attempt, the sweep, and every walk through the statuses."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError, TimeoutError

from store import checkpoints, jobs, leases, workers
from store.database import Database
from store.errors import Conflict, LeaseLost
from store.models import Job
from store.status import LEASED, TERMINAL, TRANSITIONS, JobStatus
from store.sweeper import sweep
from tests.integration.store.conftest import FAILURE
from trainer.spec import events

S = JobStatus
SOON = 0.001
"""A lease so short that a sweep does not wait for the test's servers, which have only just started."""

STARTED = events.Started(time=0, resumed_from=0, steps=5, device="cpu", parameters=1, prompts=1, prompts_dropped=0)
FENCED = [
    lambda session, id, attempt: leases.record(session, id, attempt, [STARTED], ["line"], batch=9),
    lambda session, id, attempt: leases.finish(session, id, attempt, S.SUCCEEDED),
    lambda session, id, attempt: leases.finish(session, id, attempt, S.FAILED, FAILURE),
    lambda session, id, attempt: leases.release(session, id, attempt, crashed=True),
    lambda session, id, attempt: leases.release(session, id, attempt, crashed=False),
    lambda session, id, attempt: leases.renew(session, id, attempt, 60),
    lambda session, id, attempt: checkpoints.prune(session, id, attempt),
    lambda session, id, attempt: checkpoints.forget(session, id, attempt, f"jobs/{id}/attempts/1/checkpoints/1"),
]


@pytest.mark.parametrize("action", FENCED)
@pytest.mark.parametrize("why", ["replaced", "queued again", "ended", "ahead of its time", "unknown"])
def test_a_stale_attempt_writes_nothing(database, running, claim, snapshot, action, why):
    job_id, attempt = running.job_id, running.attempt
    with database.transaction() as session:
        if why in ("replaced", "queued again"):
            leases.release(session, job_id, attempt, crashed=False)
        if why == "ended":
            leases.finish(session, job_id, attempt, S.FAILED, FAILURE)
    if why == "ended":
        attempt -= 1  # the same attempt's replay of its end is not stale
    if why == "replaced":
        assert claim().attempt == attempt + 1
    if why == "ahead of its time":
        attempt += 1
    before = snapshot(job_id)

    def write_and_act():
        with database.transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(name="written by the stale attempt"))
            action(session, "job_none" if why == "unknown" else job_id, attempt)

    with pytest.raises(LeaseLost):
        write_and_act()
    assert snapshot(job_id) == before


def test_an_ended_job_is_nobodys(database, running, snapshot):
    with database.transaction() as session:
        leases.finish(session, running.job_id, running.attempt, S.SUCCEEDED)
    before = snapshot(running.job_id)
    for action in FENCED:
        if action is FENCED[1]:
            continue
        with pytest.raises(LeaseLost), database.transaction() as session:
            action(session, running.job_id, running.attempt)
    with database.transaction() as session:  # a replay of the end itself
        assert FENCED[1](session, running.job_id, running.attempt) is S.SUCCEEDED
    assert snapshot(running.job_id) == before


@pytest.mark.parametrize("status", sorted(LEASED))
def test_renewing_tells_what_is_wanted_and_works_after_the_lease_ran_out(database, in_status, expire, job, status):
    job_id = in_status(status)
    expire(job_id)
    late = job(job_id)
    with database.transaction() as session:
        assert leases.renew(session, job_id, 1, 60) is status
    renewed = job(job_id)
    assert 55 < (renewed.lease_until - late.lease_until).total_seconds() < 120
    assert renewed.updated_at == late.updated_at, "a renewal is no news"
    with database.transaction() as session:
        assert sweep(session, SOON).expired == []


def test_a_release_without_a_crash_keeps_the_place_in_line(database, queue_job, claim, job):
    first, second = queue_job(), queue_job()
    claimed = claim()
    queued_at = job(first).queued_at
    with database.transaction() as session:
        assert leases.release(session, first, claimed.attempt, crashed=False) is S.QUEUED
    row = job(first)
    assert (row.crashes, row.queued_at, row.worker_id, row.lease_until) == (0, queued_at, None, None)
    again = claim()
    assert (again.job_id, again.attempt) == (first, 2)
    assert claim().job_id == second


def test_crashes_are_counted_until_there_were_too_many(database, queue_job, claim, job, states):
    job_id = queue_job(resources={"max_attempts": 2})
    for crashes, expected in ((1, S.QUEUED), (2, S.FAILED)):
        attempt = claim().attempt
        with database.transaction() as session:
            evidence = ["exit status -9"]
            assert leases.release(session, job_id, attempt, crashed=True, evidence=evidence) is expected
        assert job(job_id).crashes == crashes
    failure = job(job_id).failure
    assert (failure["kind"], failure["code"], failure["evidence"]) == (
        "infrastructure",
        "attempt_crashed",
        ["exit status -9"],
    )
    assert states(job_id) == ["queued", "running", "queued", "running", "failed"]


def test_a_failure_holds_whatever_the_process_printed(database, running, job):
    """A killed process may leave NUL in its last lines, and no NUL may keep a job from ending."""
    failure = FAILURE | {"message": "died\0", "evidence": ["a\0b", "\ud800"]}
    with database.transaction() as session:
        leases.finish(session, running.job_id, running.attempt, S.FAILED, failure)
    stored = job(running.job_id).failure
    assert (stored["message"], stored["evidence"]) == ("died\ufffd", ["a\ufffdb", "\ufffd"])


def test_a_sweep_that_a_hanging_database_answers_late_takes_nothing_away(database, running, expire, job):
    expire(running.job_id)
    lease = 60.0
    with pytest.raises(TimeoutError), database.transaction() as session:
        sweep(session, lease, asked_at=time.monotonic() - 11)
    assert job(running.job_id).status is S.RUNNING


def test_a_holder_frozen_in_a_transaction_loses_its_job_all_the_same(
    database, database_url, running, expire, job, wait_until
):
    """It has the row's lock, and nobody could take the job away: the server ends the transaction first."""
    frozen = Database(database_url, idle_seconds=0.5)
    expire(running.job_id)

    def taken_away():
        with database.transaction() as session:
            return sweep(session, SOON).expired

    def freeze_in_the_middle():
        with frozen.transaction() as session:
            leases.record(session, running.job_id, running.attempt, [], ["half a batch"], batch=1)
            assert taken_away() == []
            assert wait_until(taken_away, seconds=10) == [running.job_id]

    with pytest.raises(DBAPIError):
        freeze_in_the_middle()
    frozen.dispose()
    assert (job(running.job_id).status, job(running.job_id).crashes) == (S.QUEUED, 1)


@pytest.mark.parametrize("wanted", [S.CANCELLED, S.PAUSED])
def test_nobody_asked_for_that(database, running, snapshot, wanted):
    before = snapshot(running.job_id)
    with pytest.raises(Conflict), database.transaction() as session:
        leases.finish(session, running.job_id, running.attempt, wanted)
    with pytest.raises(ValueError, match="failure"), database.transaction() as session:
        leases.finish(session, running.job_id, running.attempt, S.FAILED)
    assert snapshot(running.job_id) == before


def test_a_pause_that_was_overtaken_by_a_cancellation_cancels(database, identity, running, job, snapshot):
    with database.transaction() as session:
        jobs.request_pause(session, identity, running.job_id)
        jobs.request_cancel(session, identity, running.job_id)
    with database.transaction() as session:
        assert leases.finish(session, running.job_id, running.attempt, S.PAUSED) is S.CANCELLED
    before = snapshot(running.job_id)
    with database.transaction() as session:  # the worker did not hear of the commit
        assert leases.finish(session, running.job_id, running.attempt, S.PAUSED) is S.CANCELLED
    assert snapshot(running.job_id) == before


@pytest.mark.parametrize(
    ("status", "max_attempts", "swept"),
    [
        (S.RUNNING, 2, S.QUEUED),
        (S.RUNNING, 1, S.FAILED),
        (S.CANCELLING, 2, S.CANCELLED),
        (S.CANCELLING, 1, S.CANCELLED),
        (S.PAUSING, 2, S.PAUSED),
    ],
)
def test_the_sweep_takes_what_is_no_longer_renewed(
    database, in_status, expire, job, states, status, max_attempts, swept
):
    job_id = in_status(status, resources={"max_attempts": max_attempts})
    kept = in_status(S.RUNNING)
    expire(job_id)
    with database.transaction() as session:
        result = sweep(session, SOON)
    assert result.expired == [job_id]
    assert result.queued == (1 if swept is S.QUEUED else 0)
    row = job(job_id)
    assert (row.status, row.crashes, row.lease_until) == (swept, 1, None)
    assert states(job_id)[-1] == swept
    assert job(kept).status is S.RUNNING
    if swept is S.FAILED:
        assert (row.failure["kind"], row.failure["code"]) == ("infrastructure", "lease_expired")
        assert "worker w on here" in row.failure["evidence"][0]
    with pytest.raises(LeaseLost), database.transaction() as session:
        leases.renew(session, job_id, 1, 60)
    with database.transaction() as session:
        assert sweep(session, SOON).expired == []


def test_a_database_that_has_only_just_started_takes_nothing_away(database, running, expire, status):
    expire(running.job_id)
    with database.transaction() as session:
        assert sweep(session, 10_000_000).expired == []
    assert status(running.job_id) is S.RUNNING


def test_the_sweep_marks_silent_workers_lost(database, make_worker):
    silent, heard = make_worker(), make_worker()
    with database.transaction() as session:
        session.execute(
            text("UPDATE workers SET heartbeat_at = clock_timestamp() - interval '50 seconds' WHERE id = :id"),
            {"id": silent},
        )
        sweep(session, 20)
        assert {worker.id for worker in workers.list_all(session)} == {silent, heard}
        sweep(session, 16)
        assert workers.states(session, [silent, heard]) == {silent: "lost", heard: "alive"}
        assert {worker.id for worker in workers.list_all(session)} == {silent, heard}, "lost ones are shown"
        workers.heartbeat(session, silent)  # it was only slow
        assert workers.states(session, [silent, heard]) == {silent: "alive", heard: "alive"}
        workers.drain(session, heard)
        assert workers.states(session, [heard]) == {heard: "draining"}
        workers.stop(session, heard)
        assert [worker.id for worker in workers.list_all(session)] == [silent]
        assert {worker.id for worker in workers.list_all(session, include_stopped=True)} == {silent, heard}
        session.execute(text("UPDATE workers SET heartbeat_at = clock_timestamp() - interval '25 hours'"))
        assert workers.list_all(session) == [], "for a day"


MOVES = ["cancel", "pause", "resume", "claim", "expire", *(f"finish {s}" for s in (S.SUCCEEDED, S.CANCELLED, S.PAUSED))]
MOVES += [f"finish {S.FAILED}", "crash", "give back"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(MOVES), max_size=12))
def test_no_walk_leaves_the_transition_table(database, identity, queue_job, job, states, worker_id, moves):
    with database.transaction() as session:
        session.execute(delete(Job))
    job_id = queue_job(resources={"max_attempts": 3})
    walked, attempts = [S.QUEUED], 0
    for move in moves:
        before = job(job_id)
        try:
            with database.transaction() as session:
                match move.split():
                    case ["cancel"]:
                        jobs.request_cancel(session, identity, job_id)
                    case ["pause"]:
                        jobs.request_pause(session, identity, job_id)
                    case ["resume"]:
                        jobs.resume(session, identity, job_id)
                    case ["claim"]:
                        attempts += leases.claim(session, worker_id, 0, 1, 60) is not None
                    case ["expire"]:
                        session.execute(
                            update(Job).where(Job.lease_until.is_not(None)).values(lease_until=Job.created_at)
                        )
                        sweep(session, SOON)
                    case ["finish", status]:
                        failure = FAILURE if status == S.FAILED else None
                        leases.finish(session, job_id, attempts, S(status), failure)
                    case ["crash"]:
                        leases.release(session, job_id, attempts, crashed=True)
                    case ["give", "back"]:
                        leases.release(session, job_id, attempts, crashed=False)
        except (Conflict, LeaseLost):
            refused = job(job_id)
            assert (refused.status, refused.attempt) == (before.status, before.attempt)
        after = job(job_id)
        if after.status is not before.status:
            assert after.status in TRANSITIONS[before.status]
            walked.append(after.status)
        assert after.attempt == attempts
        assert (after.lease_until is not None) is (after.status in LEASED)
        assert (after.finished_at is not None) is (after.status in TERMINAL)
        assert (after.failure is not None) is (after.status is S.FAILED)
    assert states(job_id) == walked


@pytest.fixture
def worker_id(make_worker):
    return make_worker()
