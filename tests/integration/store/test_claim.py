"""Claiming: the right job, once, whoever asks at the same time."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from store import leases
from store.access import Identity
from store.database import Database, revocable
from store.errors import NotFound
from store.leases import Claim
from store.models import Dataset, Job, Team
from store.status import JobStatus

THREADS = 24
JOBS = 150


def test_concurrent_claims_take_every_job_once(
    database: Database, queue_job: Callable[..., str], make_worker: Callable[..., str]
) -> None:
    queued = {queue_job() for _ in range(JOBS)}
    worker = make_worker(cpu_slots=JOBS)
    together = threading.Barrier(THREADS)

    def claim_all(_: int) -> list[str]:
        together.wait()
        taken = []
        while True:
            with database.transaction() as session:
                claimed = leases.claim(session, worker, 0, 1, 60)
            if claimed is None:
                return taken
            assert claimed.attempt == 1
            taken.append(claimed.job_id)

    with ThreadPoolExecutor(THREADS) as pool:
        taken = [job_id for part in pool.map(claim_all, range(THREADS)) for job_id in part]
    assert len(taken) == JOBS
    assert set(taken) == queued


def test_a_claimed_job_runs_under_a_lease(running: Claim, job: Callable[[str], Job]) -> None:
    row = job(running.job_id)
    assert row.status is JobStatus.RUNNING
    assert row.attempt == running.attempt == 1
    assert row.started_at is not None
    assert row.lease_until is not None
    assert 55 < (row.lease_until - row.started_at).total_seconds() <= 60
    assert running.spec == row.spec
    assert running.resume is None


def test_nothing_queued_and_no_slot_give_nothing(
    claim: Callable[..., Claim | None], queue_job: Callable[..., str]
) -> None:
    assert claim() is None
    queue_job()
    assert claim(free_cpu_slots=0) is None
    assert claim() is not None


def test_an_unregistered_worker_is_refused(database: Database) -> None:
    with pytest.raises(NotFound), database.transaction() as session:
        leases.claim(session, "worker_none", 0, 1, 60)


def test_priority_then_age(claim: Callable[..., Claim | None], queue_job: Callable[..., str]) -> None:
    first, second, urgent = queue_job(), queue_job(), queue_job(priority=5)
    order = [claimed.job_id for _ in range(3) if (claimed := claim())]
    assert order == [urgent, first, second]


def test_teams_with_fewer_running_jobs_come_first(
    claim: Callable[..., Claim | None],
    queue_job: Callable[..., str],
    make_key: Callable[..., object],
    make_dataset: Callable[..., Dataset],
) -> None:
    mine = [queue_job() for _ in range(3)]
    other: Identity = make_key().identity  # type: ignore[attr-defined]
    theirs = [queue_job(other, make_dataset(other).id) for _ in range(2)]
    order = [claimed.job_id for _ in range(5) if (claimed := claim())]
    assert order == [mine[0], theirs[0], mine[1], theirs[1], mine[2]]


@pytest.mark.parametrize(
    ("wanted", "worker_gpus", "free_gpus", "free_cpu_slots", "taken"),
    [
        ("auto", 0, 0, 1, 0),
        ("auto", 2, 2, 1, 1),
        ("auto", 2, 0, 1, None),  # waits for a GPU of this worker rather than crawl on its CPU
        (0, 2, 0, 1, 0),
        (0, 2, 2, 0, None),
        (1, 2, 1, 0, 1),
        (1, 2, 0, 4, None),
        (1, 0, 0, 4, None),
        (2, 4, 3, 0, 2),
        (2, 4, 1, 4, None),
    ],
)
def test_gpus_asked_for_and_free(
    claim: Callable[..., Claim | None],
    queue_job: Callable[..., str],
    make_worker: Callable[..., str],
    wanted: object,
    worker_gpus: int,
    free_gpus: int,
    free_cpu_slots: int,
    taken: int | None,
) -> None:
    queue_job(resources={"gpus": wanted})
    claimed = claim(make_worker(worker_gpus, 4), free_gpus, free_cpu_slots)
    assert (claimed and claimed.gpus) == taken


def test_a_job_that_does_not_fit_holds_nobody_up(
    claim: Callable[..., Claim | None], queue_job: Callable[..., str]
) -> None:
    for _ in range(100):
        queue_job(resources={"gpus": 1}, priority=9)
    small = queue_job(resources={"gpus": 0})
    claimed = claim()
    assert claimed is not None
    assert claimed.job_id == small


def test_a_claim_that_stands_alone_is_one_statement_and_told_to_listeners(database, queue_job, make_worker):
    job_id, worker = queue_job(), make_worker()
    said = []
    event.listen(database._engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    with database.statements() as session:
        claimed = leases.claim(session, worker, 0, 1, 60)
        with database.transaction() as other:  # committed before the session ends
            assert other.get_one(Job, job_id).status is JobStatus.RUNNING
    assert claimed.job_id == job_id
    assert [each.split()[0] for each in said] == ["WITH", "BEGIN", "SELECT", "SELECT"]
    assert "pg_notify" in said[-1]


def test_standing_alone_a_teams_limit_is_kept_too(database, identity, queue_job, make_worker):
    with database.transaction() as session:
        session.get_one(Team, identity.team_id).max_running_gpus = 1
    ids = [queue_job(resources={"gpus": 1}) for _ in range(2)]
    worker = make_worker(gpus=2)
    found = []
    for _ in ids:
        with database.statements() as session:
            found.append(leases.claim(session, worker, 2, 1, 60))
    assert [each and each.job_id for each in found] == [ids[0], None]


def test_what_is_revocable_goes_back_alone(database):
    for opened in (database.transaction, database.statements):
        with opened() as session:
            session.execute(text("INSERT INTO teams (id, name) VALUES (:name, :name)"), {"name": opened.__name__})
            with revocable(session) as take_back:
                session.execute(text("INSERT INTO teams (id, name) VALUES ('gone', 'gone')"))
                take_back()
            with revocable(session):
                second = {"name": f"{opened.__name__}2"}
                session.execute(text("INSERT INTO teams (id, name) VALUES (:name, :name)"), second)
    twice = text("INSERT INTO teams (id, name) VALUES ('gone', 'gone'), ('gone', 'gone')")
    with pytest.raises(IntegrityError), database.statements() as session, revocable(session):
        session.execute(twice)
    with database.transaction() as session:
        kept = set(session.scalars(text("SELECT id FROM teams")))
    assert kept == {"transaction", "transaction2", "statements", "statements2"}
