"""Samplers as jobs of their own kind: who gets which request, and what becomes of it however a sampler ends."""

import pytest
from sqlalchemy import select, text, update

from store import job_lists, jobs, leases, removal, samplers, sampling
from store.access import Role
from store.errors import LeaseLost, LimitReached, NotFound
from store.job_lists import Filter, Sort
from store.models import Job, Sampling
from store.sampling import SamplingStatus
from store.status import JobStatus
from trainer.spec.events import Delta, Sampled, SamplingUsage
from trainer.spec.sampling import SamplingRequest

TINY = "builtin/tiny-arith"
REQUEST = SamplingRequest(prompts=["1+1="], seed=0)


@pytest.fixture
def ask(database, identity):
    """ask(who=identity, model=...): the id of a request."""

    def make(who=identity, model=TINY, most_open=10, seconds=60.0):
        with database.transaction() as session:
            return sampling.ask(session, who, model, REQUEST, most_open=most_open, seconds=seconds).id

    return make


@pytest.fixture
def look(database):
    def at(claimed, in_hand=(), room=10):
        with database.transaction() as session:
            return samplers.look(session, claimed.job_id, claimed.attempt, list(in_hand), room)

    return at


@pytest.fixture
def read(database, identity):
    def answer(sampling_id, who=identity):
        with database.transaction() as session:
            return sampling.read(session, who, sampling_id, -1)

    return answer


@pytest.fixture
def end(database):
    def finish(claimed):
        with database.transaction() as session:
            return samplers.end(session, claimed.job_id, claimed.attempt)

    return finish


def said(request, number=0, *, last=False):
    usage = SamplingUsage(prompt_tokens=4, completion_tokens=1) if last else None
    return Sampled(time=0, request=request, number=number, deltas=[Delta(index=0, text=str(number))], usage=usage)


def record(database, claimed, *events, batch):
    with database.transaction() as session:
        leases.record(session, claimed.job_id, claimed.attempt, list(events), [], batch=batch)


def test_an_answer_comes_back_once_and_in_order(database, ask, claim, look, read, end):
    first, second = ask(), ask()
    claimed = claim()
    assert (claimed.kind, claimed.spec) == ("serve", {"model": {"id": TINY}})
    assert [each for each, _ in look(claimed, room=1).taken] == [first]
    found = look(claimed, [first])
    assert ([each for each, _ in found.taken], found.open, found.waiting) == ([second], {first}, False)
    for _ in range(2):  # a batch whose commit nobody heard of comes again
        record(database, claimed, said(first), said(first, 1, last=True), said("smp_gone"), batch=1)
    answer = read(first)
    assert answer.status is SamplingStatus.DONE
    assert [part.deltas[0]["text"] for part in answer.parts] == ["0", "1"]
    assert answer.usage == {"prompt_tokens": 4, "completion_tokens": 1}
    assert look(claimed, [first, second]).open == {second}
    record(database, claimed, said(second, last=True), batch=2)
    assert end(claimed) is JobStatus.SUCCEEDED


def test_a_team_has_one_sampler_of_a_model_and_shares_it_with_nobody(database, ask, make_key, claim, look, read):
    mine = [ask(), ask()]
    stranger = make_key().identity
    theirs = ask(stranger)
    with database.transaction() as session:
        kinds = session.execute(text("SELECT team_id, count(*) FROM jobs WHERE kind = 'serve' GROUP BY 1")).all()
    assert sorted(count for _, count in kinds) == [1, 1]
    claims = [claim(), claim()]
    taken = {each.team_id: [id for id, _ in look(each).taken] for each in claims}
    assert taken[stranger.team_id] == [theirs]
    assert sorted(map(len, taken.values())) == [1, 2]
    with pytest.raises(NotFound):
        read(mine[0], stranger)


def test_samplers_are_in_no_list_and_nobodys_to_touch(database, identity, ask, queue_job):
    ask()
    trained = queue_job()
    with database.transaction() as session:
        sampler = session.scalars(select(Job.id).where(Job.kind == "serve")).one()
        found = job_lists.find(session, identity, Filter(), Sort.NEWEST, 10, None)
        rows, _ = job_lists.read(session, found, whole=True)
        assert [job.id for job in rows] == [trained]
        for act in (jobs.get, jobs.request_cancel, jobs.request_pause, removal.request_delete):
            with pytest.raises(NotFound):
                act(session, identity, sampler)


def test_a_request_that_comes_while_the_sampler_ends_is_not_left_alone(ask, claim, look, end, database):
    ask()
    claimed = claim()
    taken = [each for each, _ in look(claimed).taken]
    record(database, claimed, said(taken[0], last=True), batch=1)
    late = ask()
    assert end(claimed) is JobStatus.QUEUED
    again = claim()
    assert (again.job_id, again.attempt) == (claimed.job_id, 2)
    assert [each for each, _ in look(again).taken] == [late]
    ask()
    with pytest.raises(LeaseLost):
        look(claimed)
    record(database, again, said(late, last=True), batch=1)


def test_a_lost_sampler_fails_what_it_had_begun_to_answer_and_nothing_else(ask, claim, look, read, expire, database):
    begun, taken, waiting = ask(), ask(), ask()
    claimed = claim()
    assert len(look(claimed, room=2).taken) == 2
    record(database, claimed, said(begun), batch=1)
    expire(claimed.job_id)
    with database.transaction() as session:
        assert leases.release(session, claimed.job_id, claimed.attempt, crashed=True) is JobStatus.QUEUED
    assert (read(begun).status, read(begun).error["code"]) == (SamplingStatus.FAILED, "sampler_lost")
    assert {read(each).status for each in (taken, waiting)} == {SamplingStatus.WAITING}
    again = claim()
    assert sorted(each for each, _ in look(again).taken) == sorted([taken, waiting])
    # Whatever kills it twice is not tried a third time.
    with database.transaction() as session:
        assert leases.release(session, again.job_id, again.attempt, crashed=True) is JobStatus.FAILED
    assert {(read(each).status, read(each).error["code"]) for each in (taken, waiting)} == {
        (SamplingStatus.FAILED, "attempt_crashed")
    }
    ask()
    assert claim().job_id != claimed.job_id


def test_what_is_given_up_is_no_longer_answered(database, identity, ask, claim, look, read):
    only = ask()
    with database.transaction() as session:
        sampling.give_up(session, identity, only)
        status = session.scalars(select(Job.status).where(Job.kind == "serve")).one()
    assert status is JobStatus.CANCELLED  # nobody waits for it
    kept, given_up = ask(), ask()
    claimed = claim()
    look(claimed)
    with database.transaction() as session:
        sampling.give_up(session, identity, given_up)
    assert look(claimed, [kept, given_up]).open == {kept}
    record(database, claimed, said(given_up, last=True), said(kept, last=True), batch=1)
    assert (read(given_up).status, read(given_up).parts) == (SamplingStatus.CANCELLED, [])
    assert read(kept).status is SamplingStatus.DONE


def test_a_sampler_knows_who_waits_for_its_slot(database, ask, claim, look, queue_job, make_worker):
    ask()
    claimed = claim(make_worker(gpus=1, cpu_slots=1), free_gpus=1)
    assert not look(claimed).others_wait

    def waits(**resources):
        job_id = queue_job(resources=resources)
        with database.transaction() as session:
            session.execute(
                update(Job).where(Job.id == job_id).values(queued_at=text("queued_at - interval '1 minute'"))
            )
        found = look(claimed).others_wait
        with database.transaction() as session:
            session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job_id})
        return found

    assert waits(gpus="auto")
    assert waits(gpus=1)
    assert not waits(gpus=0)  # a CPU slot is another kind of slot
    assert not waits(gpus=2)
    assert not waits(gpus=1, labels=["h100"])


def test_limits_and_time(database, identity, ask, read, make_key):
    ask(most_open=1)
    with pytest.raises(LimitReached):
        ask(most_open=1)
    ask(make_key().identity, most_open=1)
    late = ask(seconds=-1.0)
    with database.transaction() as session:
        samplers.tidy(session)
    assert (read(late).status, read(late).error["code"]) == (SamplingStatus.FAILED, "too_late")
    with database.transaction() as session:
        session.execute(update(Sampling).where(Sampling.id == late).values(finished_at=text("now() - interval '1 h'")))
        samplers.tidy(session)
    with pytest.raises(NotFound):
        read(late)


def test_a_checkpoint_that_is_loaded_can_be_deleted_and_its_sampler_ends(
    database, identity, make_key, ask, claim, in_status, read
):
    job_id = in_status(JobStatus.SUCCEEDED)
    model = f"job/{job_id}@2"
    with pytest.raises(NotFound):
        ask(model=model)
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO checkpoints (job_id, step, attempt, path, manifest_sha256, bytes) "
                "VALUES (:id, 2, 1, 'p', '', 1)"
            ),
            {"id": job_id},
        )
    with pytest.raises(NotFound):
        ask(make_key(Role.ADMIN).identity, model=model)
    asked = ask(model=model)
    claimed = claim()
    with database.transaction() as session:
        removal.request_delete(session, identity, job_id)
    with pytest.raises(NotFound):
        ask(model=model)
    with database.transaction() as session:
        assert leases.renew(session, claimed.job_id, claimed.attempt, 60) is JobStatus.CANCELLING
        assert leases.finish(session, claimed.job_id, claimed.attempt, JobStatus.CANCELLED) is JobStatus.CANCELLED
    assert (read(asked).status, read(asked).error["code"]) == (SamplingStatus.FAILED, "model_gone")
    with database.transaction() as session:
        assert session.get_one(Job, claimed.job_id).deleted_at is not None  # tidied away like any deleted job
