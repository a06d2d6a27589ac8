"""Many claimers, teams, priorities, sizes and limits at once; and each rule of the order on its own."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from random import Random

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, text, update

from store import jobs, leases, reservations, teams, usage, workers
from store.access import Identity, Role
from store.demand import Demand
from store.errors import LeaseLost, LimitReached
from store.models import Job, Reservation, TeamUsage
from store.policy import Limits, Policy
from store.queue import standings
from store.status import JobStatus
from store.sweeper import sweep
from trainer.spec.job import ResourcesSpec

CLAIMERS = 32
NOW = Policy(reserve_after_seconds=0.0)
"""Without waiting before a worker is kept free."""


@pytest.fixture
def make_team(database, make_key, make_dataset):
    """make_team(**limits): (its identity, a data set of its own)."""

    def make(**limits):
        identity = make_key().identity
        with database.transaction() as session:
            teams.set_limits(session, teams.find(session, identity.team_id), limits)
        return identity, make_dataset(identity).id

    return make


@pytest.fixture
def set_usage(database):
    """set_usage(team_id, seconds, kind="gpu", ago=0.0): so much was recent so many seconds ago."""

    def set_to(team_id, seconds, kind="gpu", ago=0.0, month_seconds=0.0):
        with database.transaction() as session:
            session.execute(
                text(
                    "INSERT INTO team_usage VALUES (:team, :kind, :seconds, clock_timestamp() - make_interval("
                    "secs => :ago), date_trunc('month', clock_timestamp()), :month) "
                    "ON CONFLICT (team_id, kind) DO UPDATE SET recent = excluded.recent, at = excluded.at"
                ),
                {"team": team_id, "kind": kind, "seconds": seconds, "ago": ago, "month": month_seconds},
            )

    return set_to


class Peak(threading.Thread):
    """Watches the most GPUs that each team's jobs ever held, as anyone else sees it."""

    def __init__(self, url):
        super().__init__()
        self._url = url
        self._enough = threading.Event()
        self.gpus = Counter()
        self.looks = 0

    def run(self):
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._enough.is_set():
                held = connection.execute(
                    "SELECT team_id, sum(leased_gpus) FROM jobs WHERE status = 'running' GROUP BY team_id"
                )
                for team_id, gpus in held:
                    self.gpus[team_id] = max(self.gpus[team_id], gpus)
                self.looks += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self.join()


def test_many_claimers_take_every_job_once_and_keep_to_every_limit(
    database_url, database, make_team, make_worker, queue_job
):
    random = Random(7)
    limits = [1, 2, 4, 8, None, None]
    rows = {make_team(**({} if limit is None else {"running_gpus": limit})): limit for limit in limits}
    wanted = {}
    for _ in range(35):
        for (identity, dataset_id), limit in rows.items():
            gpus = random.choice([gpus for gpus in (0, 1, 1, 2, 4) if limit is None or gpus <= limit])
            job_id = queue_job(identity, dataset_id, priority=random.choice([-5, 0, 5]), resources={"gpus": gpus})
            wanted[job_id] = gpus
    worker_ids = [make_worker(gpus=4, cpu_slots=1) for _ in range(CLAIMERS)]
    together, taken = threading.Barrier(CLAIMERS), []

    def work(worker_id):
        together.wait()
        while len(taken) < len(wanted):
            with database.statements() as session:  # as workers do
                claimed = leases.claim(session, worker_id, 4, 1, 60)
            if claimed is None:
                continue  # the teams whose jobs are left are at their limits: until a job of theirs has ended
            assert claimed.gpus == wanted[claimed.job_id]
            taken.append(claimed.job_id)
            with database.transaction() as session:
                leases.finish(session, claimed.job_id, claimed.attempt, JobStatus.SUCCEEDED)

    with Peak(database_url) as peak, ThreadPoolExecutor(CLAIMERS) as pool:
        list(pool.map(work, worker_ids))
    assert Counter(taken) == Counter(wanted.keys()), "each once, none left"
    for (identity, _), limit in rows.items():
        assert limit is None or peak.gpus[identity.team_id] <= limit
    assert peak.looks > 10


def test_two_claims_of_one_moment_do_not_exceed_a_limit_together(database, make_team, make_worker, queue_job):
    identity, dataset_id = make_team(running_gpus=5)
    for _ in range(40):
        queue_job(identity, dataset_id, resources={"gpus": 1})
    worker_ids = [make_worker(gpus=1) for _ in range(CLAIMERS)]
    together = threading.Barrier(CLAIMERS)

    def take(worker_id):
        together.wait()
        with database.statements() as session:
            return leases.claim(session, worker_id, 1, 0, 60)

    with ThreadPoolExecutor(CLAIMERS) as pool:
        claims = [claimed for claimed in pool.map(take, worker_ids) if claimed is not None]
    assert len(claims) == 5, "and no less either"


@pytest.mark.parametrize(
    ("blocked", "limits"),
    [
        ({"labels": ["nowhere"]}, {}),
        ({"gpus": 8}, {}),
        ({"gpus": 1, "gpu_memory": 200}, {}),
        ({"gpus": 1}, {"running_gpus": 0}),
        ({"gpus": 1}, {"gpu_hours": 0}),
    ],
)
def test_a_thousand_jobs_that_nobody_can_run_hold_nobody_up(
    database, make_team, queue_job, make_worker, blocked, limits
):
    identity, dataset_id = make_team(**limits)
    pattern = queue_job(identity, dataset_id, priority=50, resources=blocked)
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO jobs (id, team_id, created_by, name, status, spec, gpus, demand, model, priority, "
                "max_attempts, steps) SELECT id || n, team_id, created_by, name, status, spec, gpus, demand, model, "
                "priority, max_attempts, steps FROM jobs, generate_series(1, 999) n WHERE id = :id"
            ),
            {"id": pattern},
        )
    fits, worker = queue_job(resources={"gpus": 1}), make_worker(gpus=2)
    with database.transaction() as session:
        assert leases.claim(session, worker, [86, 86], 1, 60).job_id == fits
        assert leases.claim(session, worker, [86], 1, 60) is None


def test_the_fair_share_by_hand(database, make_team, queue_job, make_worker, set_usage):
    """Half-life 100 s. A used 80 just now; B 300 two half-lives ago, so 75; C 100 one half-life ago, so 50."""
    policy = Policy(half_life_seconds=100.0, head_start_seconds=20.0)
    a, b, c = make_team(), make_team(), make_team()
    queued = {}
    for name, team in (("a", a), ("b", b), ("c", c)):
        queued |= {queue_job(*team, resources={"gpus": 1}): name for _ in range(3)}
    set_usage(a[0].team_id, 80.0)
    set_usage(b[0].team_id, 300.0, ago=200.0)
    set_usage(c[0].team_id, 100.0, ago=100.0)
    worker, order = make_worker(gpus=9), []
    for free in range(9, 0, -1):
        with database.transaction() as session:
            order.append(queued[leases.claim(session, worker, free, 0, 60, policy).job_id])
    # Each that begins counts 20 at once. c 50, 70; b 75, c's third at 90, before that a at 80; b at 95, and so on.
    assert order == ["c", "c", "b", "a", "c", "b", "a", "b", "a"]


def test_use_of_cpu_slots_and_of_gpus_are_apart(database, make_team, queue_job, make_worker, set_usage):
    a, b = make_team(), make_team()
    set_usage(a[0].team_id, 1e6, kind="cpu")
    set_usage(b[0].team_id, 10.0, kind="gpu")
    of_b = queue_job(*b, resources={"gpus": 1})
    of_a = queue_job(*a, resources={"gpus": 1})
    assert of_b < of_a
    with database.transaction() as session:
        assert leases.claim(session, make_worker(gpus=1), 1, 0, 60).job_id == of_a


def test_very_old_use_is_forgotten_and_no_underflow(database, make_team, queue_job, make_worker, set_usage):
    a, b = make_team(), make_team()
    set_usage(a[0].team_id, 1e9, ago=1e7)
    set_usage(b[0].team_id, 1.0)
    queue_job(*b, resources={"gpus": 1})
    first = queue_job(*a, resources={"gpus": 1})
    with database.transaction() as session:
        assert leases.claim(session, make_worker(gpus=1), 1, 0, 60, Policy(half_life_seconds=1.0)).job_id == first


@pytest.fixture
def charged_since(database):
    """charged_since(job_id, seconds): its lease was charged last so many seconds ago."""

    def set_to(job_id, seconds):
        with database.transaction() as session:
            session.execute(
                text("UPDATE jobs SET charged_at = charged_at - make_interval(secs => :s) WHERE id = :id"),
                {"s": seconds, "id": job_id},
            )

    return set_to


@pytest.fixture
def usage_of(database):
    """usage_of(team_id): {kind: (recent, this month)}."""

    def read(team_id):
        with database.transaction() as session:
            rows = session.scalars(select(TeamUsage).where(TeamUsage.team_id == team_id))
            return {row.kind: (row.recent, row.month_seconds) for row in rows}

    return read


def test_a_lease_is_charged_once_for_every_second(
    database, identity, queue_job, make_worker, job, charged_since, usage_of
):
    queue_job(resources={"gpus": 2})
    with database.transaction() as session:
        claimed = leases.claim(session, make_worker(gpus=2), 2, 0, 60)
    charged_since(claimed.job_id, 100)

    def renew(_):
        with database.transaction() as session:
            leases.renew(session, claimed.job_id, 1, 60)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(renew, range(8)))
    charged_since(claimed.job_id, 50)
    with database.transaction() as session:
        leases.finish(session, claimed.job_id, 1, JobStatus.SUCCEEDED)
    with database.transaction() as session:  # a replay
        leases.finish(session, claimed.job_id, 1, JobStatus.SUCCEEDED)
    ended = job(claimed.job_id)
    assert ended.used_seconds == pytest.approx(150, abs=5)
    assert ended.gpu_seconds == pytest.approx(2 * ended.used_seconds)
    assert (ended.leased_gpus, ended.charged_at) == (None, None)
    assert usage_of(identity.team_id)["gpu"] == pytest.approx((2 * ended.used_seconds,) * 2, rel=1e-3)
    assert "cpu" not in usage_of(identity.team_id)


def test_a_lost_lease_is_charged_up_to_its_last_renewal(
    database, identity, running, job, charged_since, usage_of, expire
):
    charged_since(running.job_id, 30)
    with database.transaction() as session:
        leases.renew(session, running.job_id, running.attempt, 60)
    charged_since(running.job_id, 1000)  # its worker is gone; nobody knows what it did
    expire(running.job_id)
    with database.transaction() as session:
        assert sweep(session, 0.001).expired == [running.job_id]
    assert job(running.job_id).used_seconds == pytest.approx(30, abs=5)
    before = usage_of(identity.team_id)
    assert before["cpu"] == pytest.approx((30, 30), abs=5)
    with pytest.raises(LeaseLost), database.transaction() as session:
        leases.finish(session, running.job_id, running.attempt, JobStatus.SUCCEEDED)
    assert usage_of(identity.team_id) == before


def test_a_new_month_begins_at_zero_and_recent_use_does_not(database, running, identity, charged_since, usage_of):
    with database.transaction() as session:
        session.execute(
            text("INSERT INTO team_usage VALUES (:team, 'cpu', 40, clock_timestamp(), '2020-01-01', 5000)"),
            {"team": identity.team_id},
        )
    charged_since(running.job_id, 10)
    with database.transaction() as session:
        leases.renew(session, running.job_id, running.attempt, 60)
        month = session.scalars(select(TeamUsage.month)).one()
    assert month == datetime.now(UTC).date().replace(day=1)
    assert usage_of(identity.team_id)["cpu"] == pytest.approx((50, 10), abs=3)


def test_gpu_hours_of_the_month_end_the_claims_of_gpus(database, make_team, queue_job, make_worker, set_usage):
    team = make_team(gpu_hours=2)
    set_usage(team[0].team_id, 0, month_seconds=2 * 3600 - 1)
    first, second = (queue_job(*team, resources={"gpus": 1}) for _ in range(2))
    small = queue_job(*team, resources={"gpus": 0})
    worker = make_worker(gpus=2)
    with database.transaction() as session:
        assert leases.claim(session, worker, 2, 0, 60).job_id == first
        session.execute(update(TeamUsage).values(month_seconds=2 * 3600))
        assert leases.claim(session, worker, 1, 0, 60) is None
        assert leases.claim(session, worker, 1, 1, 60).job_id == small
        teams.set_limits(session, teams.find(session, team[0].team_id), {"gpu_hours": 3})
        assert leases.claim(session, worker, 1, 0, 60).job_id == second


def test_the_platforms_default_and_a_team_without_limit(database, make_team, queue_job, make_worker):
    policy = Policy(Limits(running_gpus=1))
    default, free = make_team(), make_team(running_gpus=-1)
    for team in (default, free):
        for _ in range(3):
            queue_job(*team, resources={"gpus": 1})
    worker, order = make_worker(gpus=6), []
    with database.transaction() as session:
        while claimed := leases.claim(session, worker, 6, 0, 60, policy):
            order.append(claimed.team_id)
    assert Counter(order) == {default[0].team_id: 1, free[0].team_id: 3}


@pytest.mark.parametrize(
    ("resources", "free", "labels", "takes"),
    [
        ({"gpus": 2, "gpu_memory": 80}, [86, 25, 86], [], 2),
        ({"gpus": 3, "gpu_memory": 80}, [86, 25, 86], [], None),
        ({"gpus": 3, "gpu_memory": 24}, [86, 25, 86], [], 3),
        ({"gpus": 1, "gpu_memory": 1}, [None], [], None),  # what is unknown is not enough
        ({"gpus": 1}, [None], [], 1),
        ({"gpu_memory": 40}, [86], [], 1),  # auto, but not onto a CPU
        ({"gpu_memory": 40}, [], [], None),
        ({"labels": ["a"]}, [86], ["b", "a"], 1),
        ({"labels": ["a", "b"]}, [86], ["a"], None),
        ({"gpus": 0, "labels": ["a"]}, [], ["a"], 0),
    ],
)
def test_memory_and_labels(database, queue_job, make_worker, resources, free, labels, takes):
    queue_job(resources=resources)
    worker = make_worker(gpus=len(free), memory=free, labels=labels)
    with database.transaction() as session:
        claimed = leases.claim(session, worker, free, 1, 60)
    assert (claimed and claimed.gpus) == takes
    if claimed:
        assert claimed.gpu_memory == resources.get("gpu_memory")


def test_a_demand_is_a_word_and_back():
    for resources in ({}, {"gpus": 0}, {"gpus": 4, "gpu_memory": 80, "labels": ["b", "a", "b"]}):
        demand = Demand.of(ResourcesSpec.model_validate(resources))
        assert Demand.parse(str(demand)) == demand
    assert str(demand) == "4/80/a,b"


# Reservations


@pytest.fixture
def keep_free(database):
    """keep_free(policy=NOW): what a sweep does about it; {worker: job}."""

    def run(policy=NOW):
        with database.transaction() as session:
            reservations.keep_workers_free(session, policy)
        with database.transaction() as session:
            return {row.worker_id: row.job_id for row in session.scalars(select(Reservation))}

    return run


@pytest.fixture
def take(database):
    """take(worker, free_gpus): the id of the job that it claims, or None."""

    def claim(worker, free_gpus, free_cpu_slots=0):
        with database.transaction() as session:
            claimed = leases.claim(session, worker, free_gpus, free_cpu_slots, 60, NOW)
        return claimed and claimed.job_id

    return claim


def end(database, job_id):
    with database.transaction() as session:
        leases.finish(session, job_id, 1, JobStatus.SUCCEEDED)


def test_small_jobs_do_not_pass_a_large_one_by_for_ever(database, queue_job, make_worker, keep_free, take):
    worker = make_worker(gpus=2)
    running = [queue_job(resources={"gpus": 1}) for _ in range(2)]
    assert [take(worker, 2), take(worker, 1)] == running
    large = queue_job(resources={"gpus": 2})
    small = [queue_job(resources={"gpus": 1}) for _ in range(4)]
    end(database, running[0])
    assert take(worker, 1) == small[0], "so far"
    assert keep_free(Policy(reserve_after_seconds=3600)) == {}, "it has not waited long enough"
    assert keep_free() == {worker: large}
    end(database, small[0])
    assert take(worker, 1) is None, "kept"
    urgent = queue_job(resources={"gpus": 1}, priority=1)
    cpu = queue_job(resources={"gpus": 0})
    assert take(worker, 1, 1) == urgent, "what is more urgent passes"
    assert take(worker, 0, 1) == cpu, "CPU slots are not concerned"
    end(database, urgent)
    end(database, running[1])
    assert take(worker, 2) == large
    assert keep_free() == {}
    end(database, large)
    assert [take(worker, 2), take(worker, 1)] == small[1:3]


def test_the_worker_where_it_fits_soonest_is_kept(database, queue_job, make_worker, keep_free, take):
    slow, fast, alone, other = (make_worker(gpus=gpus) for gpus in (2, 2, 1, 2))
    for worker, left in ((slow, 500.0), (fast, 20.0), (other, None)):
        job_id = queue_job(resources={"gpus": 1})
        assert take(worker, 2) == job_id
        with database.transaction() as session:
            pace = None if left is None else left / 5
            session.execute(update(Job).where(Job.id == job_id).values(seconds_per_step=pace, model=f"of {worker}"))
    large = queue_job(resources={"gpus": 2})
    assert keep_free() == {fast: large}
    assert keep_free() == {fast: large}, "and stays"
    assert take(alone, 1) is None
    with database.transaction() as session:
        workers.stop(session, fast)
    assert keep_free() == {slow: large}, "a worker that leaves is kept for nobody"
    with database.transaction() as session:
        jobs.request_cancel(session, *cancel_args(session, large))
    assert keep_free() == {}


def cancel_args(session, job_id):
    job = session.get_one(Job, job_id)
    return Identity(job.created_by, job.team_id, Role.MEMBER), job_id


def test_only_the_first_of_each_priority_has_a_worker_kept(queue_job, make_worker, keep_free, take):
    busy = [make_worker(gpus=4) for _ in range(4)]
    for worker in busy:
        queue_job(resources={"gpus": 2}, priority=100)
        take(worker, 4)
    large = [queue_job(resources={"gpus": 4}) for _ in range(2)]
    low = queue_job(resources={"gpus": 3}, priority=-1)
    assert sorted(keep_free().values()) == sorted([large[0], low])


@pytest.mark.parametrize("limits", [{"running_gpus": 1}, {"gpu_hours": 0}])
def test_nothing_is_kept_for_a_team_at_its_limit(make_team, queue_job, make_worker, keep_free, take, limits):
    worker = make_worker(gpus=2)
    queue_job(resources={"gpus": 1})
    take(worker, 2)
    team = make_team(**limits)
    queue_job(*team, resources={"gpus": 2})
    assert keep_free() == {}
    queue_job(resources={"gpus": 8})
    assert keep_free() == {}, "nor for what fits nowhere"


def test_nothing_is_kept_for_what_fits_now(queue_job, make_worker, keep_free):
    make_worker(gpus=2)
    queue_job(resources={"gpus": 2})
    assert keep_free() == {}


# The order against a plain reference


QUEUED = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([-1, 0, 0, 3]),
        st.sampled_from(["auto", 0, 1, 2, 4]),
        st.sampled_from([None, 40, 80]),
        st.sampled_from([(), ("a",), ("a", "b")]),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    queued=QUEUED,
    worker=st.tuples(st.lists(st.sampled_from([None, 25, 86]), max_size=4), st.sampled_from([(), ("a",), ("a", "b")])),
    used=st.tuples(*[st.sampled_from([0.0, 1000.0, 5000.0])] * 3),
    limits=st.tuples(*[st.sampled_from([None, 0, 1, 3])] * 3),
)
def test_the_order_is_the_references(
    database, make_team, make_worker, queue_job, set_usage, queued, worker, used, limits
):
    memory, labels = worker
    with database.transaction() as session:
        session.execute(text("DELETE FROM jobs"))
    rows = [make_team(running_gpus=limit) for limit in limits]
    for (identity, _), seconds in zip(rows, used, strict=True):
        set_usage(identity.team_id, seconds)
    waiting = []
    for team, priority, gpus, memory_wanted, wanted in queued:
        memory_wanted = None if gpus == 0 else memory_wanted
        resources = {"gpus": gpus, "gpu_memory": memory_wanted, "labels": list(wanted)}
        job_id = queue_job(*rows[team], priority=priority, resources=resources)
        waiting.append((job_id, team, priority, Demand.of(ResourcesSpec.model_validate(resources))))
    policy = Policy(half_life_seconds=1e12)
    worker_id = make_worker(gpus=len(memory), memory=memory, labels=labels)
    running = Counter()
    cpus = Counter()

    def best():
        """By the rules in words, over a list."""
        fitting = []
        for number, (job_id, team, priority, demand) in enumerate(waiting):
            takes = demand.takes(len(memory))
            limit = limits[team]
            if takes and (demand.suits(memory) < takes or (limit is not None and running[team] + takes > limit)):
                continue
            if set(demand.labels) <= set(labels):
                share = used[team] + 60 * running[team] if takes else 60 * cpus[team]
                fitting.append((-priority, share, number, job_id, team, takes))
        return min(fitting, default=None)

    while True:
        expected = best()
        with database.transaction() as session:
            claimed = leases.claim(session, worker_id, memory, 1, 60, policy)
        assert (claimed and claimed.job_id) == (expected and expected[3])
        if expected is None:
            break
        *_, job_id, team, takes = expected
        (running if takes else cpus)[team] += takes or 1
        waiting = [each for each in waiting if each[0] != job_id]


# Admission


def test_a_team_may_not_queue_more_than_its_limit_however_many_come_at_once(database, make_team, make_spec):
    identity, dataset_id = make_team(queued_jobs=3)
    together = threading.Barrier(8)

    def submit(number):
        together.wait()
        try:
            with database.transaction() as session:
                jobs.create(session, identity, make_spec(dataset_id), idempotency_key=str(number))
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(submit, range(8))) == 3


def test_what_a_team_uses(database, make_team, queue_job, make_worker):
    identity, dataset_id = make_team()
    queue_job(identity, dataset_id, resources={"gpus": 2})
    queue_job(identity, dataset_id)
    with database.transaction() as session:
        leases.claim(session, make_worker(gpus=2), 2, 0, 60)
        found = usage.used(session, identity.team_id, Policy())
    assert (found.running_gpus, found.queued_jobs, found.gpu_hours) == (2, 1, 0.0)
    assert found.disk_bytes > 0


def test_a_page_of_places_takes_as_many_queries_as_one(database, identity, queue_job, make_worker):
    make_worker()
    ids = [queue_job() for _ in range(20)]
    counted = []
    with database.transaction() as session:
        found = [session.get_one(Job, id) for id in ids]

        @event.listens_for(session.connection().engine, "before_cursor_execute")
        def count(*_):
            counted.append(1)

        assert [info.position for info in standings(session, found).values()] == list(range(1, 21))
        many = len(counted)
        standings(session, found[:1])
    assert len(counted) == 2 * many <= 20
