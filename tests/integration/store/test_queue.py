"""Where a queued job stands: what it waits for, behind whom, and for how long."""

import pytest
from sqlalchemy import text, update

from store import jobs, workers
from store.models import Job
from store.queue import QueueInfo, queue_info


@pytest.fixture
def stands(database, job):
    """stands(job_id): (position, wait_reason, eta_seconds)."""

    def read(job_id):
        with database.transaction() as session:
            info = queue_info(session, job(job_id))
            return info and (info.position, info.wait_reason, info.eta_seconds)

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
        (1, {"gpus": 0, "cpu_slots": 4}, "no_gpu_worker"),
        (0, {"gpus": 2, "cpu_slots": 0}, "no_worker"),
        (0, {"gpus": 0, "cpu_slots": 1}, "starting"),
        (1, {"gpus": 1, "cpu_slots": 0}, "starting"),
        (2, {"gpus": 1, "cpu_slots": 4}, "no_gpu_worker"),
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
    assert stands(waiting[0]) == (1, "slots_taken", None), "the other one may end first"
    paced(running[1], 3, 10.0)
    assert [stands(job_id) for job_id in waiting] == [
        (1, "slots_taken", 20.0),
        (2, "slots_taken", 40.0),
        (3, "slots_taken", None),
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
    assert found == QueueInfo(2, "starting", 0.0)
    expected = sorted(places, key=places.get)
    assert sorted(places.values()) == [1, 2, 3, 4]
    # The first two: each claim changes how many jobs run of a team, and with that the order behind it.
    assert [claim(worker).job_id for _ in range(2)] == expected[:2]


def test_jobs_that_wait_for_a_gpu_are_not_in_the_way_of_those_for_a_cpu(queue_job, make_worker, claim, stands):
    worker = make_worker(cpu_slots=1)
    waiting = [queue_job(resources={"gpus": 1}) for _ in range(2)]
    small = queue_job(resources={"gpus": 0})
    assert stands(small) == (1, "starting", 0.0)
    assert stands(waiting[1]) == (2, "no_gpu_worker", None)
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
