"""Where a queued job stands: what it waits for, behind whom, and for how long."""

import random

import pytest
from sqlalchemy import select, text, update

from store import cluster, jobs, reservations, workers
from store.models import Job
from store.policy import DEFAULT, Limits, Policy
from store.queue import QueueInfo, queue_info, standings
from store.status import JobStatus


@pytest.fixture
def stands(database, job):
    """stands(job_id): (position, code of the reason, eta_seconds)."""

    def read(job_id):
        with database.transaction() as session:
            info = queue_info(session, job(job_id))
            return info and (info.position, info.code, info.eta_seconds)

    return read


@pytest.fixture
def paced(database):
    """paced(job_id, step, seconds): it has done so many of its 5 steps at so many seconds each."""

    def set_pace(job_id, step, seconds):
        with database.transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(step=step, seconds_per_step=seconds))

    return set_pace


def test_only_queued_jobs_stand_in_line(database, running, stands):
    assert stands(running.job_id) is None


def test_nobody_is_there(database, queue_job, stands, make_worker):
    first, second = queue_job(), queue_job()
    assert stands(first) == (1, "no_worker", None)
    assert stands(second) == (2, "no_worker", None)
    gone, silent = make_worker(), make_worker()
    with database.transaction() as session:
        workers.stop(session, gone)
        session.execute(
            text("UPDATE workers SET heartbeat_at = clock_timestamp() - interval '2 minutes' WHERE id = :id"),
            {"id": silent},
        )
    assert stands(first) == (1, "no_worker", None)


@pytest.mark.parametrize(
    ("wanted", "worker", "reason"),
    [
        (1, {"gpus": 0, "cpu_slots": 4}, "no_worker_with_gpus"),
        (0, {"gpus": 2, "cpu_slots": 0}, "no_cpu_slots"),
        (0, {"gpus": 0, "cpu_slots": 1}, "starting"),
        (1, {"gpus": 1, "cpu_slots": 0}, "starting"),
        (2, {"gpus": 1, "cpu_slots": 4}, "no_worker_with_gpus"),
        (2, {"gpus": 2, "cpu_slots": 0}, "starting"),
        ("auto", {"gpus": 1, "cpu_slots": 0}, "starting"),
        ("auto", {"gpus": 0, "cpu_slots": 1}, "starting"),
    ],
)
def test_what_the_workers_have(queue_job, make_worker, stands, wanted, worker, reason):
    make_worker(**worker)
    assert stands(queue_job(resources={"gpus": wanted}))[:2] == (1, reason)


def test_the_line_and_when_it_moves(queue_job, make_worker, claim, stands, paced):
    worker = make_worker(cpu_slots=2)
    running = [queue_job(), queue_job()]
    waiting = [queue_job(), queue_job(), queue_job()]
    assert stands(waiting[0]) == (3, "slots_taken", None)  # behind two that are about to start
    assert {claim(worker).job_id, claim(worker).job_id} == set(running)
    assert stands(waiting[0]) == (1, "slots_taken", None)
    paced(running[0], 1, 10.0)
    paced(running[1], 3, 10.0)
    # Those that wait are as long as their team's last jobs on that model were measured: 5 steps of 10 s.
    assert [stands(job_id) for job_id in waiting] == [
        (1, "slots_taken", 20.0),
        (2, "slots_taken", 40.0),
        (3, "slots_taken", 70.0),
    ]


def test_the_order_is_that_of_the_claim(database, queue_job, make_worker, make_key, make_dataset, claim, stands):
    worker = make_worker(cpu_slots=9)
    queue_job()
    claim(worker)
    other = make_key().identity
    mine = [queue_job(), queue_job(), queue_job(priority=3)]
    theirs = queue_job(other, make_dataset(other).id)
    with database.transaction() as session:
        found = queue_info(session, jobs.get(session, other, theirs))
    places = {job_id: stands(job_id)[0] for job_id in mine} | {theirs: found.position}
    assert found == QueueInfo(2, "starting", "about to start", 0.0)
    expected = sorted(places, key=places.get)
    assert sorted(places.values()) == [1, 2, 3, 4]
    # The first two: each claim changes how many jobs run of a team, and with that the order behind it.
    assert [claim(worker).job_id for _ in range(2)] == expected[:2]


def test_jobs_that_wait_for_a_gpu_are_not_in_the_way_of_those_for_a_cpu(queue_job, make_worker, claim, stands):
    worker = make_worker(cpu_slots=1)
    waiting = [queue_job(resources={"gpus": 1}) for _ in range(2)]
    small = queue_job(resources={"gpus": 0})
    assert stands(small) == (1, "starting", 0.0)
    assert stands(waiting[1]) == (2, "no_worker_with_gpus", None)
    assert claim(worker).job_id == small


def test_jobs_on_cpu_slots_do_not_take_the_gpu_of_an_auto_job(queue_job, make_worker, claim, stands):
    worker = make_worker(gpus=1, cpu_slots=2)
    small = [queue_job(resources={"gpus": 0}) for _ in range(2)]
    assert {claim(worker, 1, 2).job_id, claim(worker, 1, 1).job_id} == set(small)
    auto = queue_job()
    assert stands(auto) == (1, "starting", 0.0)
    assert claim(worker, 1, 0).job_id == auto
    assert stands(queue_job()) == (1, "slots_taken", None)


def test_a_job_for_two_gpus_waits_until_one_worker_has_both(queue_job, make_worker, claim, stands, paced):
    worker, other = make_worker(gpus=2), make_worker(gpus=1)
    running = [queue_job(resources={"gpus": 1}) for _ in range(2)]
    assert {claim(worker, 2 - taken, 1).job_id for taken in range(2)} == set(running)
    large = queue_job(resources={"gpus": 2})
    assert claim(other, 1, 1) is None
    assert stands(large) == (1, "slots_taken", None)
    paced(running[0], 1, 10.0)
    paced(running[1], 3, 10.0)
    assert stands(large) == (1, "slots_taken", 40.0)


def test_a_job_on_a_worker_that_went_away_takes_no_slot_of_the_others(database, queue_job, make_worker, claim, stands):
    gone = make_worker()
    queue_job()
    claim(gone)
    with database.transaction() as session:
        workers.stop(session, gone)
    make_worker()
    assert stands(queue_job()) == (1, "starting", 0.0)


@pytest.fixture
def words(database, job):
    """words(job_id): (code, reason) of its wait."""

    def read(job_id, policy=DEFAULT):
        with database.transaction() as session:
            info = queue_info(session, job(job_id), policy)
            return info.code, info.wait_reason

    return read


@pytest.mark.parametrize(
    ("resources", "code", "reason"),
    [
        ({"gpus": 1, "gpu_memory": 200}, "no_worker_with_gpu_memory", "no worker with 200 GB"),
        ({"gpus": 2, "gpu_memory": 80}, "no_worker_with_gpu_memory", "no worker with 2 GPUs of 80 GB"),
        ({"gpus": 8}, "no_worker_with_gpus", "no worker with 8 GPUs; the largest has 2"),
        ({"labels": ["h200"]}, "no_worker_with_labels", "no worker with the label h200"),
        ({"labels": ["h200", "ib"]}, "no_worker_with_labels", "no worker with the labels h200, ib"),
        ({"gpus": 1, "labels": ["cpu"]}, "no_worker_with_gpus", "no worker with cpu with a GPU; none has a GPU"),
        ({"gpus": 0, "labels": ["h100"]}, "no_cpu_slots", "no worker with h100 takes jobs without a GPU"),
        ({"gpus": 2}, "starting", "about to start"),
    ],
)
def test_what_no_worker_has_is_said(queue_job, make_worker, words, resources, code, reason):
    make_worker(gpus=2, cpu_slots=0, memory=[86, 25], labels=["h100"])
    make_worker(gpus=0, cpu_slots=1, labels=["cpu"])
    assert words(queue_job(resources=resources)) == (code, reason)


def test_a_teams_limits_are_said(database, queue_job, make_worker, claim, words):
    worker = make_worker(gpus=8)
    for _ in range(3):
        queue_job(resources={"gpus": 1})
        claim(worker, 8, 0)
    policy = Policy(Limits(running_gpus=4))
    large = queue_job(resources={"gpus": 2})
    assert words(large, policy) == ("team_gpu_limit", "team limit 4 GPUs reached: 3 in use, it needs 2")
    single = queue_job(resources={"gpus": 1})
    assert words(single, policy) == ("starting", "about to start"), "what cannot begin is not before it"
    assert words(single, Policy(Limits(running_gpus=3))) == ("team_gpu_limit", "team limit 3 GPUs reached")
    too_large = queue_job(resources={"gpus": 5})
    assert words(too_large, policy) == ("above_team_limit", "it needs 5 GPUs and the team limit is 4")
    code, reason = words(single, Policy(Limits(gpu_hours=0)))
    assert (code, reason[:42]) == ("team_gpu_hours", "team limit of 0 GPU-hours a month reached;")
    assert words(queue_job(resources={"gpus": 0}), Policy(Limits(gpu_hours=0)))[0] == "starting"


def test_who_waits_behind_a_reservation_is_told_so(database, queue_job, make_worker, claim, words):
    worker = make_worker(gpus=4, cpu_slots=1, name="node-1")
    queue_job(resources={"gpus": 1})
    claim(worker, 4, 0)
    large, small = queue_job(resources={"gpus": 4}), queue_job(resources={"gpus": 1})
    assert words(large) == ("slots_taken", "no worker has 4 GPUs free at once; the most is 3")
    assert words(small) == ("starting", "about to start")
    with database.transaction() as session:
        reservations.keep_workers_free(session, Policy(reserve_after_seconds=0.0))
    assert words(large) == ("slots_taken", "worker node-1 is kept free for it and gets free as its jobs end")
    assert words(small) == ("reserved", "the next free GPUs are kept for a job of 4 GPUs that waits longer")


def test_jobs_that_nobody_can_run_are_not_counted_before_others(queue_job, make_worker, stands):
    make_worker(gpus=1, cpu_slots=0)
    blocked = [queue_job(resources={"gpus": 1, "labels": ["none"]}, priority=9) for _ in range(3)]
    assert stands(queue_job(resources={"gpus": 1})) == (1, "starting", 0.0)
    assert stands(blocked[2])[:2] == (3, "no_worker_with_labels")


def test_the_eta_of_a_large_job_counts_those_before_it(queue_job, make_worker, claim, stands, paced):
    """One worker, 2 GPUs, steps of 10 s, 5 a job: one small run ends in 20 s, one in 50 s."""
    worker = make_worker(gpus=2)
    running = [queue_job(resources={"gpus": 1}) for _ in range(2)]
    assert [claim(worker, 2, 0).job_id, claim(worker, 1, 0).job_id] == running
    paced(running[0], 3, 10.0)
    paced(running[1], 0, 10.0)
    next_small, large = queue_job(resources={"gpus": 1}, priority=1), queue_job(resources={"gpus": 2})
    last = queue_job(resources={"gpus": 1, "max_runtime": 7})
    assert stands(next_small) == (1, "slots_taken", 20.0)
    assert stands(large) == (2, "slots_taken", 70.0)
    assert stands(last) == (3, "slots_taken", 50.0), "it fits in before, as the claim would do it"


def test_places_are_those_of_the_whole_queue_put_in_order(
    database, make_key, make_dataset, queue_job, make_worker, claim, job
):
    """Against the plain way: all jobs that something could start, sorted, and counted."""
    draw = random.Random(5)
    worker = make_worker(gpus=2, cpu_slots=2)
    people = [make_key().identity for _ in range(3)]
    data = {who.team_id: make_dataset(who).id for who in people}
    for who in people[:2]:  # so that the teams' shares differ
        queue_job(who, data[who.team_id], resources={"gpus": 1 if who is people[0] else 0})
        claim(worker, 1, 1)
    for _ in range(60):
        who = draw.choice(people)
        gpus = draw.choice([0, 1, 2, 4, "auto"])
        queue_job(who, data[who.team_id], priority=draw.choice([-1, 0, 0, 3]), resources={"gpus": gpus})
    with database.transaction() as session:
        queued = list(session.scalars(select(Job).where(Job.status == JobStatus.QUEUED)))
        found = standings(session, queued)
        teams = cluster.teams(session, [who.team_id for who in people], DEFAULT)

    def takes(each):
        # With the one worker there: an auto job takes a GPU.
        return "cpu" if each.gpus == 0 else "gpu"

    def place(each):
        team = teams[each.team_id]
        share = team.gpu_share if takes(each) == "gpu" else team.cpu_share
        return -each.priority, share, each.queued_at, each.id

    assert len({teams[who.team_id].gpu_share for who in people}) == 2
    possible = sorted((each for each in queued if each.gpus != 4), key=place)
    for kind in ("cpu", "gpu"):
        line = [each.id for each in possible if takes(each) == kind]
        assert [found[id].position for id in line] == list(range(1, len(line) + 1)), kind
    for who in people:
        stuck = sorted((each for each in queued if each.gpus == 4 and each.team_id == who.team_id), key=place)
        assert [found[each.id].position for each in stuck] == list(range(1, len(stuck) + 1))
        assert {found[each.id].code for each in stuck} <= {"no_worker_with_gpus"}


def test_who_has_been_claimed_since_has_no_place_any_more(database, queue_job, make_worker, claim, job):
    job_id, behind = queue_job(), queue_job()
    seen = job(job_id)
    assert claim().job_id == job_id
    with database.transaction() as session:
        assert list(standings(session, [seen, job(behind)])) == [behind]
