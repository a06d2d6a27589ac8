"""Who tells a webhook what, in which order, for how long, and what becomes of it when nothing gets through."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from store import jobs, leases
from store.access import Role
from store.models import Webhook, WebhookDelivery
from store.status import JobStatus
from store.webhooks import hooks, turns
from store.webhooks.events import HookEvent
from store.webhooks.turns import Outcome

FINE, FAILED = Outcome(200, None), Outcome(500, "answered 500")


@pytest.fixture
def identity(make_key):
    return make_key(Role.ADMIN).identity


@pytest.fixture
def make_hook(database, identity):
    def make(events=tuple(HookEvent), who=identity):
        with database.transaction() as session:
            return hooks.create(session, who, name="h", url="https://h.example/", events=events, tags=[]).id

    return make


@pytest.fixture
def do(database):
    """do(function, *arguments): in a transaction of its own."""

    def call(function, *arguments, **more):
        with database.transaction() as session:
            return function(session, *arguments, **more)

    return call


@pytest.fixture
def sql(do):
    return lambda statement, **values: do(lambda session: session.execute(text(statement), values))


@pytest.fixture
def hook_of(do):
    return lambda hook_id: do(lambda session: session.get_one(Webhook, hook_id))


@pytest.fixture
def delivery_of(do):
    return lambda id: do(lambda session: session.get_one(WebhookDelivery, id))


def all_due(sql):
    sql("UPDATE webhook_deliveries SET due_at = clock_timestamp() WHERE status = 'pending'")


def test_everything_that_is_told_of_a_job_comes_from_its_journal(make_hook, queue_job, claim, do, states, identity):
    make_hook()
    job_id = queue_job()
    claimed = claim()
    do(jobs.request_pause, identity, job_id)
    do(leases.finish, job_id, claimed.attempt, JobStatus.PAUSED)
    do(jobs.resume, identity, job_id)
    do(jobs.request_cancel, identity, job_id)
    told = do(lambda session: session.scalars(text("SELECT event FROM webhook_deliveries ORDER BY id")).all())
    passing = {"pausing", "cancelling"}
    assert told == [f"job.{status}" for status in states(job_id) if status not in passing]


def test_what_is_rolled_back_is_told_to_nobody(make_hook, database, identity, dataset, make_spec, do):
    make_hook()

    def create_and_fail():
        with database.transaction() as session:
            jobs.create(session, identity, make_spec(dataset.id))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        create_and_fail()
    assert do(turns.waiting) == 0


def test_steps_and_jobs_of_teams_without_webhooks_write_nothing(make_hook, make_key, running, do, sql):
    make_hook(who=make_key(Role.ADMIN).identity)
    sql(
        "INSERT INTO job_events (job_id, attempt, level, type, message, data) "
        "VALUES (:id, 1, 'info', 'step', 's', '{}'), (:id, 1, 'info', 'checkpoint', 'c', '{}')",
        id=running.job_id,
    )
    assert do(turns.waiting) == 0


def test_one_webhook_is_never_with_two(make_hook, identity, do):
    ids = {make_hook() for _ in range(4)}
    for hook_id in ids:
        do(hooks.test, identity, hook_id)
    barrier = threading.Barrier(8)

    def begin(_):
        barrier.wait()
        return do(turns.begin, [])

    with ThreadPoolExecutor(8) as threads:
        begun = [turn for turn in threads.map(begin, range(8)) if turn is not None]
    # One that passed over a locked row may have found nothing; it looks again.
    while (turn := do(turns.begin, [])) is not None:
        begun.append(turn)
    assert sorted(turn.hook_id for turn in begun) == sorted(ids)


def test_whoever_stood_still_too_long_changes_nothing(make_hook, identity, do, sql, delivery_of):
    hook_id = make_hook()
    do(hooks.test, identity, hook_id)
    late = do(turns.begin, [])
    due = do(turns.take, late)
    assert do(turns.begin, []) is None
    sql("UPDATE webhooks SET busy_until = clock_timestamp()")
    all_due(sql)
    new = do(turns.begin, [])
    assert (new.hook_id, new.number) == (hook_id, late.number + 1)
    assert do(turns.settle, late, due, FINE) is None
    assert do(turns.take, late) is None
    do(turns.end, late)
    assert do(turns.begin, []) is None
    assert delivery_of(due.id).status == "pending"
    again = do(turns.take, new)
    assert (again.id, again.tries) == (due.id, 2)
    assert do(turns.settle, new, again, FINE) == "delivered"


def test_a_team_that_is_served_enough_waits(make_hook, make_key, identity, do):
    other = make_key(Role.ADMIN).identity
    mine, theirs = make_hook(), make_hook(who=other)
    do(hooks.test, identity, mine)
    do(hooks.test, other, theirs)
    assert do(turns.begin, [identity.team_id]).hook_id == theirs
    assert do(turns.begin, [identity.team_id]) is None


def test_a_failed_delivery_holds_back_its_own_job_for_some_tries_only(make_hook, queue_job, identity, do, sql):
    make_hook()
    first, second = queue_job(), queue_job()
    do(jobs.request_cancel, identity, first)
    turn = do(turns.begin, [])
    order = []
    for _ in range(2):
        due = do(turns.take, turn)
        order.append((due.job_id, due.event))
        do(turns.settle, turn, due, FAILED if due.job_id == first else FINE)
    assert order == [(first, "job.queued"), (second, "job.queued")]
    assert do(turns.take, turn) is None
    for tries in range(2, turns.HOLDS_ITS_JOB + 1):
        all_due(sql)
        due = do(turns.take, turn)
        assert (due.event, due.tries) == ("job.queued", tries)
        if tries < turns.HOLDS_ITS_JOB:
            assert do(turns.take, turn) is None
        do(turns.settle, turn, due, FAILED)
    assert do(turns.take, turn).event == "job.cancelled"


def test_tries_come_ever_less_often_and_end(make_hook, identity, do, sql, delivery_of, hook_of):
    hook_id = make_hook()
    delivery = do(hooks.test, identity, hook_id)
    turn = do(turns.begin, [])
    for tries in range(1, turns.MOST_TRIES + 1):
        all_due(sql)
        due = do(turns.take, turn)
        status = do(turns.settle, turn, due, FAILED)
        found = delivery_of(delivery.id)
        waited = (found.due_at - found.tried_at).total_seconds()
        longest = min(5 * 2 ** (tries - 1), 86_400)
        if tries < turns.MOST_TRIES:
            assert status == "pending"
            assert longest / 2 <= waited <= longest + 5
    assert status == "failed"
    hook = hook_of(hook_id)
    assert hook.active, "it has not failed for long"
    assert hook.failing_since is not None


def test_one_that_has_failed_for_long_is_switched_off_and_says_why(make_hook, identity, do, sql, hook_of, delivery_of):
    hook_id = make_hook()
    last, other = do(hooks.test, identity, hook_id), do(hooks.test, identity, hook_id)
    sql("UPDATE webhook_deliveries SET tries = :tries WHERE id = :id", tries=turns.MOST_TRIES - 1, id=last.id)
    sql("UPDATE webhooks SET failing_since = clock_timestamp() - interval '13 hours'")
    turn = do(turns.begin, [])
    assert do(turns.settle, turn, do(turns.take, turn), FAILED) == "failed"
    hook = hook_of(hook_id)
    assert not hook.active
    assert hook.switched_off_because.startswith("nothing could be delivered since")
    assert hook.switched_off_because.endswith("answered 500")
    assert delivery_of(other.id).status == "failed"
    assert do(turns.take, turn) is None
    on = do(hooks.edit, identity, hook_id, active=True)
    assert (on.active, on.switched_off_because, on.failing_since) == (True, None, None)


def test_a_success_begins_the_count_anew(make_hook, identity, do, hook_of):
    hook_id = make_hook()
    do(hooks.test, identity, hook_id), do(hooks.test, identity, hook_id)
    turn = do(turns.begin, [])
    do(turns.settle, turn, do(turns.take, turn), FAILED)
    assert hook_of(hook_id).failing_since is not None
    do(turns.settle, turn, do(turns.take, turn), FINE)
    assert hook_of(hook_id).failing_since is None


def test_a_receiver_that_is_gone_is_asked_no_more(make_hook, identity, do, hook_of):
    hook_id = make_hook()
    do(hooks.test, identity, hook_id)
    turn = do(turns.begin, [])
    assert do(turns.settle, turn, do(turns.take, turn), Outcome(410, "answered 410")) == "failed"
    assert "410" in hook_of(hook_id).switched_off_because


def test_a_receiver_may_ask_for_more_time(make_hook, identity, do, delivery_of):
    delivery = do(hooks.test, identity, make_hook())
    turn = do(turns.begin, [])
    do(turns.settle, turn, do(turns.take, turn), Outcome(429, "answered 429", retry_after=600))
    found = delivery_of(delivery.id)
    assert (found.due_at - found.tried_at).total_seconds() >= 600


def test_a_replay_asked_for_during_a_call_is_made(make_hook, identity, do, delivery_of):
    hook_id = make_hook()
    delivery = do(hooks.test, identity, hook_id)
    turn = do(turns.begin, [])
    due = do(turns.take, turn)
    do(hooks.replay, identity, hook_id, delivery.id)
    do(turns.settle, turn, due, FINE)
    assert delivery_of(delivery.id).status == "pending"
    assert do(turns.take, turn).id == delivery.id


def test_what_is_old_goes_and_what_is_pending_stays(make_hook, identity, do, sql):
    hook_id = make_hook()
    ids = [do(hooks.test, identity, hook_id).id for _ in range(3)]
    sql("UPDATE webhook_deliveries SET status = 'delivered' WHERE id <> :id", id=ids[1])
    sql("UPDATE webhook_deliveries SET created_at = created_at - interval '31 days' WHERE id <> :id", id=ids[2])
    assert do(turns.prune) == 1
    left = do(lambda session: session.scalars(text("SELECT id FROM webhook_deliveries ORDER BY id")).all())
    assert left == ids[1:]
