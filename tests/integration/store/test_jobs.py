"""Jobs as their team sees them: made once, whatever is retried; steered from every status; invisible to others."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from store import datasets, job_history, jobs, keys, leases
from store.access import Role
from store.errors import Conflict, Forbidden, Invalid, NotFound
from store.ids import new_id
from store.status import JobStatus

S = JobStatus
# None: refused with Conflict.
CANCEL = {
    S.QUEUED: S.CANCELLED,
    S.RUNNING: S.CANCELLING,
    S.PAUSING: S.CANCELLING,
    S.PAUSED: S.CANCELLED,
    S.CANCELLING: S.CANCELLING,
    S.CANCELLED: S.CANCELLED,
    S.SUCCEEDED: None,
    S.FAILED: None,
}
PAUSE = {
    S.QUEUED: S.PAUSED,
    S.RUNNING: S.PAUSING,
    S.PAUSING: S.PAUSING,
    S.PAUSED: S.PAUSED,
    S.CANCELLING: None,
    S.CANCELLED: None,
    S.SUCCEEDED: None,
    S.FAILED: None,
}
RESUME = {
    S.QUEUED: S.QUEUED,
    S.RUNNING: S.RUNNING,
    S.PAUSING: S.PAUSING,
    S.PAUSED: S.QUEUED,
    S.CANCELLING: None,
    S.CANCELLED: None,
    S.SUCCEEDED: None,
    S.FAILED: None,
}
CASES = [
    pytest.param(request, before, after, id=f"{name}-{before}")
    for name, request, table in (
        ("cancel", jobs.request_cancel, CANCEL),
        ("pause", jobs.request_pause, PAUSE),
        ("resume", jobs.resume, RESUME),
    )
    for before, after in table.items()
]


@pytest.mark.parametrize(("request_", "before", "after"), CASES)
def test_requests_in_every_status(database, identity, in_status, snapshot, states, job, request_, before, after):
    job_id = in_status(before)
    found = snapshot(job_id)
    assert job(job_id).status is before
    if after is None:
        with pytest.raises(Conflict, match=job_id), database.transaction() as session:
            request_(session, identity, job_id)
        assert snapshot(job_id) == found
        return
    with database.transaction() as session:
        assert request_(session, identity, job_id).status is after
    once = snapshot(job_id)
    noted = (request_, before) == (jobs.resume, S.PAUSING)  # for when it is paused
    assert (once == found) is (before is after and not noted)
    with database.transaction() as session:
        assert request_(session, identity, job_id).status is after
    assert snapshot(job_id) == once, "asking twice is asking once"
    row = job(job_id)
    assert states(job_id)[-1] == row.status == after
    assert (row.finished_at is not None) is (after is S.CANCELLED)
    assert (row.lease_until is not None) is (after in {S.RUNNING, S.PAUSING, S.CANCELLING})


@pytest.mark.parametrize("ending", ["paused", "released"])
@pytest.mark.parametrize("again", [False, True])
def test_a_resume_while_a_job_is_pausing_holds_once_it_is_paused(
    database, identity, running, queue_job, states, job, claim, ending, again
):
    other = queue_job()
    with database.transaction() as session:
        jobs.request_pause(session, identity, running.job_id)
        jobs.resume(session, identity, running.job_id)
        if again:
            jobs.request_pause(session, identity, running.job_id)  # the last word counts
        if ending == "paused":
            status = leases.finish(session, running.job_id, running.attempt, S.PAUSED)
        else:
            status = leases.release(session, running.job_id, running.attempt, crashed=False)
    assert status is job(running.job_id).status is (S.PAUSED if again else S.QUEUED)
    assert states(running.job_id)[-2:] == (["pausing", "paused"] if again else ["paused", "queued"])
    assert claim().job_id == other, "it goes behind those that wait"
    if not again:
        assert claim().job_id == running.job_id
        with database.transaction() as session:
            jobs.request_pause(session, identity, running.job_id)
            assert leases.finish(session, running.job_id, running.attempt + 1, S.PAUSED) is S.PAUSED


def test_a_resumed_job_goes_behind_those_that_wait(database, identity, queue_job, claim):
    first, second = queue_job(), queue_job()
    with database.transaction() as session:
        jobs.request_pause(session, identity, first)
        jobs.resume(session, identity, first)
    assert [claim().job_id, claim().job_id] == [second, first]


READS = [
    lambda session, who, id: jobs.get(session, who, id),
    lambda session, who, id: job_history.events_after(session, who, id, 0, 10),
    lambda session, who, id: job_history.logs_after(session, who, id, 0, 10),
    lambda session, who, id: job_history.metrics(session, who, id),
    lambda session, who, id: job_history.rollouts(session, who, id),
    lambda session, who, id: job_history.rollout_steps(session, who, id),
    lambda session, who, id: job_history.checkpoints(session, who, id),
]
WRITES = [jobs.request_cancel, jobs.request_pause, jobs.resume]


@pytest.mark.parametrize("action", READS + WRITES)
def test_another_teams_job_is_not_found(database, queue_job, make_key, snapshot, action):
    job_id = queue_job()
    stranger = make_key(Role.ADMIN).identity
    before = snapshot(job_id)
    with pytest.raises(NotFound) as theirs, database.transaction() as session:
        action(session, stranger, job_id)
    with pytest.raises(NotFound) as nobodys, database.transaction() as session:
        action(session, stranger, "job_none")
    assert str(theirs.value) == str(nobodys.value).replace("job_none", job_id)
    assert snapshot(job_id) == before


def test_an_id_that_no_text_column_can_hold_is_not_found(database, identity):
    for odd in ("job_\0", "job_\ud800"):
        with pytest.raises(NotFound), database.transaction() as session:
            jobs.get(session, identity, odd)


@pytest.mark.parametrize("action", WRITES)
def test_viewers_only_read(database, identity, queue_job, make_key, make_spec, dataset, action):
    job_id = queue_job()
    viewer = make_key(Role.VIEWER, identity.team_id).identity
    with database.transaction() as session:
        for read in READS:
            read(session, viewer, job_id)
        assert [row.id for row in jobs.list_page(session, viewer, 10)] == [job_id]
    with pytest.raises(Forbidden), database.transaction() as session:
        action(session, viewer, job_id)
    with pytest.raises(Forbidden), database.transaction() as session:
        jobs.create(session, viewer, make_spec(dataset.id))
    with pytest.raises(Forbidden), database.transaction() as session:
        datasets.delete(session, viewer, dataset.id)


def test_pages_go_backwards_in_time_and_show_the_teams_own(database, identity, queue_job, make_key, make_dataset):
    mine = [queue_job() for _ in range(5)]
    other = make_key().identity
    theirs = queue_job(other, make_dataset(other).id)
    with database.transaction() as session:
        jobs.request_cancel(session, identity, mine[1])
        first = [row.id for row in jobs.list_page(session, identity, 3)]
        rest = [row.id for row in jobs.list_page(session, identity, 3, after=first[-1])]
        cancelled = [row.id for row in jobs.list_page(session, identity, 9, status=[S.CANCELLED, S.FAILED])]
        assert [row.id for row in jobs.list_page(session, other, 9)] == [theirs]
    assert first + rest == mine[::-1]
    assert cancelled == [mine[1]]


def test_one_idempotency_key_one_job(database, identity, make_spec, dataset, make_key, make_dataset):
    spec = make_spec(dataset.id)
    with database.transaction() as session:
        first, created = jobs.create(session, identity, spec, idempotency_key="k")
        assert created
    with database.transaction() as session:
        again, created = jobs.create(session, identity, make_spec(dataset.id), idempotency_key="k")
        assert (again.id, created) == (first.id, False)
    for other in ({"spec": make_spec(dataset.id, seed=1)}, {"spec": make_spec(dataset.id, resources={"priority": 1})}):
        with pytest.raises(Conflict, match=first.id), database.transaction() as session:
            jobs.create(session, identity, **other, idempotency_key="k")
    colleague, stranger = make_key(team_id=identity.team_id).identity, make_key().identity
    with database.transaction() as session:
        assert jobs.create(session, colleague, spec, idempotency_key="k")[0].id == first.id
        assert jobs.create(session, stranger, make_spec(make_dataset(stranger).id), idempotency_key="k")[1]
        # No key: every request is a new job.
        assert jobs.create(session, identity, spec)[1]
        assert jobs.create(session, identity, spec)[1]


def test_two_requests_with_one_key_at_the_same_moment_make_one_job(database, identity, make_spec, dataset):
    threads = 8
    together = threading.Barrier(threads)

    def create(number):
        with database.transaction() as session:
            session.connection()
            together.wait()
            job, created = jobs.create(session, identity, make_spec(dataset.id), idempotency_key="k")
            return job.id, created

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(create, range(threads)))
    assert len({id for id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    with database.transaction() as session:
        assert len(job_history.events_after(session, identity, answers[0][0], 0, 10)) == 1


def test_two_payloads_with_one_key_at_the_same_moment(database, identity, make_spec, dataset):
    together = threading.Barrier(2)

    def create(seed):
        try:
            with database.transaction() as session:
                session.connection()
                together.wait()
                return jobs.create(session, identity, make_spec(dataset.id, seed=seed), idempotency_key="k")[1]
        except Conflict:
            return "conflict"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(create, range(2)), key=str) == [True, "conflict"]


def test_references_to_what_the_team_does_not_have_are_named(
    database, identity, make_spec, dataset, make_key, make_dataset
):
    theirs = make_dataset(make_key().identity).id
    gone = make_dataset(identity).id
    with database.transaction() as session:
        datasets.delete(session, identity, gone)
    missing = new_id("ds")
    benchmarks = [{"name": "a", "data": dataset.id}, {"name": "b", "data": gone}, {"name": "c", "data": missing}]
    model = {"id": f"job/{new_id('job')}@3"}
    for attempt in (jobs.create, jobs.check_references):
        with pytest.raises(Invalid) as caught, database.transaction() as session:
            attempt(session, identity, make_spec(theirs, eval=benchmarks, model=model))
        assert [error["loc"] for error in caught.value.errors] == [
            ["body", "data", "train"],
            ["body", "eval", 1, "data"],
            ["body", "eval", 2, "data"],
            ["body", "model", "id"],
        ]
        # Whose it is must not show.
        assert caught.value.errors[0]["msg"] == f"no data set {theirs!r}"
    with database.transaction() as session:
        assert jobs.list_page(session, identity, 1) == []


def test_a_data_set_cannot_vanish_while_a_job_is_made_of_it(database, identity, make_spec, dataset):
    """Whoever comes second sees what the first did, whichever it is."""
    together = threading.Barrier(2)

    def create():
        try:
            with database.transaction() as session:
                session.connection()
                together.wait()
                jobs.create(session, identity, make_spec(dataset.id))
            return "made"
        except Invalid:
            return "refused"

    def delete():
        try:
            with database.transaction() as session:
                session.connection()
                together.wait()
                datasets.delete(session, identity, dataset.id)
            return "made"
        except Conflict:
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(create), pool.submit(delete)]
        assert sorted(answer.result() for answer in answers) == ["made", "refused"]


@pytest.mark.parametrize("place", ["train", "eval"])
def test_a_data_set_in_use_stays(database, identity, make_spec, make_dataset, place):
    used, other = make_dataset(identity).id, make_dataset(identity).id
    spec = make_spec(used if place == "train" else other, eval=[{"name": "e", "data": used}])
    with database.transaction() as session:
        job_id = jobs.create(session, identity, spec)[0].id
    with pytest.raises(Conflict, match=job_id), database.transaction() as session:
        datasets.delete(session, identity, used)
    with database.transaction() as session:
        assert datasets.get(session, identity, used).deleted_at is None
        jobs.request_cancel(session, identity, job_id)
    with database.transaction() as session:
        sha256 = datasets.get(session, identity, used).sha256
        datasets.delete(session, identity, used)
        assert datasets.blob_in_use(session, sha256), "the other data set has the same content"
        datasets.delete(session, identity, other)
        assert not datasets.blob_in_use(session, sha256)
        assert datasets.list_page(session, identity, 10) == []
    for action in (datasets.get, datasets.delete):
        with pytest.raises(NotFound), database.transaction() as session:
            action(session, identity, used)


def test_another_teams_data_set_and_key_are_not_found(database, dataset, identity, make_key):
    stranger = make_key(Role.ADMIN).identity
    for action, id in ((datasets.get, dataset.id), (datasets.delete, dataset.id), (keys.revoke, identity.key_id)):
        with pytest.raises(NotFound, match=id), database.transaction() as session:
            action(session, stranger, id)
    with database.transaction() as session:
        assert datasets.list_page(session, stranger, 10) == []
        assert [key.id for key in keys.list_page(session, stranger, 10)] == [stranger.key_id]
        with pytest.raises(NotFound, match=dataset.id):
            datasets.files(session, stranger.team_id, [dataset.id])
        found = datasets.files(session, identity.team_id, [dataset.id])
    assert found == {dataset.id: datasets.DataFile(dataset.sha256, "jsonl")}
