"""Clones, which begin anew with changes, and retries, which go on where an ended job stopped."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from store import checkpoints, job_history, jobs, leases, removal, successors
from store.access import Role
from store.errors import Conflict, Forbidden, Invalid, NotFound
from store.status import TERMINAL, JobStatus
from tests.integration.store.conftest import FAILURE
from trainer.spec import JobSpec, events


def checkpoint(number):
    return events.Checkpoint(
        time=1, step=number, path=f"checkpoints/{number}", manifest_sha256="0" * 64, bytes=7, score=None
    )


def run(session, claimed, steps, with_checkpoint=None, resumed_from=0):
    """An attempt that got so far."""
    told = [
        events.Started(
            time=1, resumed_from=resumed_from, steps=9, device="cpu", parameters=1, prompts=1, prompts_dropped=0
        )
    ]
    told += [events.Step(time=1, step=n, metrics={"loss": n}) for n in range(resumed_from + 1, steps + 1)]
    told += [checkpoint(with_checkpoint)] if with_checkpoint else []
    leases.record(session, claimed.job_id, claimed.attempt, told, [], batch=1)


@pytest.fixture
def fail(database):
    """fail(claimed, steps, with_checkpoint=None): got so far, then failed."""

    def make(claimed, steps, with_checkpoint=None, resumed_from=0):
        with database.transaction() as session:
            run(session, claimed, steps, with_checkpoint, resumed_from)
            leases.finish(session, claimed.job_id, claimed.attempt, JobStatus.FAILED, FAILURE)

    return make


@pytest.fixture
def retry(database, identity):
    def make(job_id, who=identity):
        with database.transaction() as session:
            job, created = successors.retry(session, who, job_id)
            return job.id, created

    return make


@pytest.fixture
def steps_of(database, identity):
    def read(job_id):
        with database.transaction() as session:
            return [row.step for row in job_history.metrics(session, identity, job_id)]

    return read


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_in_any_status_can_be_cloned_and_stays_as_it_is(database, identity, in_status, snapshot, status):
    source = in_status(status)
    before = snapshot(source)
    with database.transaction() as session:
        spec = JobSpec.model_validate(jobs.get(session, identity, source).spec | {"seed": 4})
        first, created = successors.clone(session, identity, source, spec, idempotency_key="k")
        again, created_again = successors.clone(session, identity, source, spec, idempotency_key="k")
    assert (created, created_again, again.id) == (True, False, first.id)
    assert (first.cloned_from, first.status, first.spec["seed"]) == (source, JobStatus.QUEUED, 4)
    assert snapshot(source) == before


@pytest.mark.parametrize("status", list(JobStatus))
def test_only_what_failed_or_was_cancelled_can_be_retried(database, identity, in_status, snapshot, retry, status):
    source = in_status(status)
    before = snapshot(source)
    if status in (JobStatus.FAILED, JobStatus.CANCELLED):
        made, created = retry(source)
        assert created
        assert retry(source) == (made, False), "asking twice is asking once"
    else:
        with pytest.raises(Conflict, match=source):
            retry(source)
    assert snapshot(source) == before


def test_a_retry_goes_on_from_the_last_checkpoint_with_the_metrics_up_to_it(
    running, fail, retry, claim, steps_of, job, database
):
    fail(running, 5, with_checkpoint=3)
    made, _ = retry(running.job_id)
    assert (job(made).retry_of, job(made).step, job(made).attempt, job(made).crashes) == (running.job_id, 3, 0, 0)
    assert job(made).spec == job(running.job_id).spec
    assert steps_of(made) == [1, 2, 3]
    assert steps_of(running.job_id) == [1, 2, 3, 4, 5]
    claimed = claim()
    assert claimed.job_id == made
    assert claimed.resume.path == f"jobs/{running.job_id}/attempts/1/checkpoints/3"
    with database.transaction() as session:
        run(session, claimed, 6, with_checkpoint=6, resumed_from=3)
        leases.release(session, made, 1, crashed=True)
    assert steps_of(made) == [1, 2, 3, 4, 5, 6]
    own = claim().resume
    assert own.path == f"jobs/{made}/attempts/1/checkpoints/6", "its own counts as soon as there is one"


def test_a_retry_of_a_retry_that_came_nowhere_goes_on_from_the_same_checkpoint(running, fail, retry, claim, steps_of):
    fail(running, 5, with_checkpoint=3)
    second, _ = retry(running.job_id)
    claimed = claim()
    fail(claimed, 4, resumed_from=3)
    third, _ = retry(second)
    assert claim().resume.path == f"jobs/{running.job_id}/attempts/1/checkpoints/3"
    assert steps_of(third) == [1, 2, 3]


def test_a_damaged_checkpoint_of_the_job_before_is_forgotten_for_the_one_before_it(
    database, queue_job, claim, fail, retry, steps_of
):
    queue_job(checkpoint={"every": 1, "keep_last": 2})
    first = claim()
    with database.transaction() as session:
        run(session, first, 2, with_checkpoint=2)
        leases.record(session, first.job_id, 1, [checkpoint(1)], [], batch=2)
        leases.finish(session, first.job_id, 1, JobStatus.FAILED, FAILURE)
    made, _ = retry(first.job_id)
    claimed = claim()
    assert claimed.resume.step == 2
    with database.transaction() as session:
        checkpoints.forget(session, made, 1, claimed.resume.path)
        leases.release(session, made, 1, crashed=True)
    claimed = claim()
    assert claimed.resume.step == 1
    with database.transaction() as session:
        run(session, claimed, 1, resumed_from=1)
    assert steps_of(made) == [1], "the copied row of the step that is done again is gone"


def test_a_retry_without_a_checkpoint_begins_anew(running, fail, retry, claim, steps_of):
    fail(running, 2)
    made, _ = retry(running.job_id)
    assert claim().resume is None
    assert steps_of(made) == []


def test_retries_at_the_same_moment_are_one_job(running, fail, retry):
    fail(running, 1, with_checkpoint=1)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: retry(running.job_id), range(6)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


def test_a_retry_whose_data_is_gone_is_refused_and_leaves_nothing(database, identity, running, fail, retry, dataset):
    from store import datasets

    fail(running, 1, with_checkpoint=1)
    with database.transaction() as session:
        datasets.delete(session, identity, dataset.id)
    with pytest.raises(Invalid, match=dataset.id):
        retry(running.job_id)
    with database.transaction() as session:
        assert [job.id for job in jobs.list_page(session, identity, 9)] == [running.job_id]


def test_strangers_find_nothing_and_viewers_make_nothing(database, identity, running, fail, retry, make_key, make_spec):
    fail(running, 1)
    stranger, viewer = make_key(Role.ADMIN).identity, make_key(Role.VIEWER, identity.team_id).identity
    for who, refusal in ((stranger, NotFound), (viewer, Forbidden)):
        with pytest.raises(refusal):
            retry(running.job_id, who)
        with pytest.raises(refusal), database.transaction() as session:
            successors.clone(session, who, running.job_id, make_spec("ds_none"))
        with pytest.raises(refusal), database.transaction() as session:
            removal.request_delete(session, who, running.job_id)


@pytest.mark.parametrize("status", list(JobStatus))
def test_only_what_has_ended_can_be_deleted(database, identity, in_status, snapshot, status):
    job_id = in_status(status)
    before = snapshot(job_id)
    if status not in TERMINAL:
        with pytest.raises(Conflict, match=f"{job_id} is {status}"), database.transaction() as session:
            removal.request_delete(session, identity, job_id)
        assert snapshot(job_id) == before
        return
    with database.transaction() as session:
        removal.request_delete(session, identity, job_id)
    with database.transaction() as session:
        assert jobs.list_page(session, identity, 9) == []
        for gone in (jobs.get, removal.request_delete, successors.retry):
            with pytest.raises(NotFound):
                gone(session, identity, job_id)
        assert removal.untidy(session, 9) == [removal.Untidy(job_id, deleted=True)]
        assert removal.kept_checkpoints(session, job_id) == set()


def test_a_job_that_another_goes_on_from_cannot_be_deleted_until_that_has_ended(
    database, identity, running, fail, retry, queue_job
):
    fail(running, 2, with_checkpoint=2)
    made, _ = retry(running.job_id)
    user = queue_job(model={"id": f"job/{running.job_id}@2"})
    for other in (made, user):
        with pytest.raises(Conflict, match="goes on from a checkpoint"), database.transaction() as session:
            removal.request_delete(session, identity, running.job_id)
        with database.transaction() as session:
            jobs.request_cancel(session, identity, other)
    with database.transaction() as session:
        removal.request_delete(session, identity, running.job_id)


def test_a_deleted_retry_makes_room_for_another(database, identity, running, fail, retry):
    fail(running, 2, with_checkpoint=2)
    made, _ = retry(running.job_id)
    with database.transaction() as session:
        jobs.request_cancel(session, identity, made)
        removal.request_delete(session, identity, made)
    assert retry(running.job_id)[1]
