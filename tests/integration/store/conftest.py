"""For the store's tests: workers, queued jobs and claimed jobs."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text, update

from store import job_history, jobs, leases, workers
from store.access import Identity
from store.database import Database
from store.leases import Claim
from store.models import Dataset, Job
from store.status import JobStatus
from trainer.spec import JobSpec

LEASE = 60.0
FAILURE: leases.Failure = {"kind": "user", "code": "no_rows", "message": "no rows left", "evidence": []}


@pytest.fixture
def make_worker(database: Database) -> Callable[..., str]:
    """make_worker(gpus=0, cpu_slots=1, memory=(), labels=(), name="w") -> its id. memory: GB of each GPU."""

    def make(
        gpus: int = 0,
        cpu_slots: int = 1,
        memory: Sequence[int | None] = (),
        labels: Sequence[str] = (),
        name: str = "w",
    ) -> str:
        devices: list[workers.Device] = [{"name": "GPU", "memory_gb": each} for each in memory]
        with database.transaction() as session:
            return workers.register(
                session,
                name=name,
                host="here",
                pid=1,
                gpus=gpus,
                cpu_slots=cpu_slots,
                version="0",
                devices=devices,
                labels=labels,
            ).id

    return make


@pytest.fixture
def dataset(identity: Identity, make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(identity)


@pytest.fixture
def queue_job(
    database: Database, identity: Identity, dataset: Dataset, make_spec: Callable[..., JobSpec]
) -> Callable[..., str]:
    """queue_job(identity=..., dataset_id=..., priority=0, **sections of the spec) -> its id."""

    def make(who: Identity = identity, dataset_id: str = dataset.id, priority: int = 0, **sections: Any) -> str:
        resources = {**sections.pop("resources", {}), "priority": priority}
        with database.transaction() as session:
            return jobs.create(session, who, make_spec(dataset_id, resources=resources, **sections))[0].id

    return make


@pytest.fixture
def claim(database: Database, make_worker: Callable[..., str]) -> Callable[..., Claim | None]:
    """claim(worker_id=None, free_gpus=0, free_cpu_slots=1): by that worker, or a new one with one CPU slot."""

    def make(worker_id: str | None = None, free_gpus: int = 0, free_cpu_slots: int = 1) -> Claim | None:
        worker_id = worker_id or make_worker()
        with database.transaction() as session:
            return leases.claim(session, worker_id, free_gpus, free_cpu_slots, LEASE)

    return make


@pytest.fixture
def running(queue_job: Callable[..., str], claim: Callable[..., Claim | None]) -> Claim:
    """A job that has just been claimed."""
    queue_job()
    claimed = claim()
    assert claimed is not None
    return claimed


@pytest.fixture
def job(database: Database, identity: Identity) -> Callable[[str], Job]:
    """job(id): as it is now."""

    def get(job_id: str) -> Job:
        with database.transaction() as session:
            return jobs.get(session, identity, job_id)

    return get


@pytest.fixture
def status(job: Callable[[str], Job]) -> Callable[[str], JobStatus]:
    return lambda job_id: job(job_id).status


@pytest.fixture
def snapshot(database: Database) -> Callable[[str], dict[str, list[Any]]]:
    """snapshot(job_id): every row of every table about it, to show that nothing was written."""
    tables = {"jobs": "id", "job_events": "job_id", "job_logs": "job_id", "job_metrics": "job_id"}
    tables |= {"rollouts": "job_id", "checkpoints": "job_id"}

    def take(job_id: str) -> dict[str, list[Any]]:
        with database.transaction() as session:
            return {
                table: sorted(
                    session.scalars(
                        text(f"SELECT row_to_json(t)::text FROM {table} t WHERE {key} = :id"),  # noqa: S608 - above
                        {"id": job_id},
                    )
                )
                for table, key in tables.items()
            }

    return take


@pytest.fixture
def states(database: Database, identity: Identity) -> Callable[[str], list[str]]:
    """states(job_id): the statuses that its journal tells, in order."""

    def read(job_id: str) -> list[str]:
        with database.transaction() as session:
            events = job_history.events_after(session, identity, job_id, 0, 1000)
            return [event.data["status"] for event in events if event.type == "state"]

    return read


@pytest.fixture
def expire(database: Database) -> Callable[[str], None]:
    """expire(job_id): its lease ran out a second ago."""

    def past(job_id: str) -> None:
        with database.transaction() as session:
            session.execute(
                update(Job).where(Job.id == job_id).values(lease_until=text("clock_timestamp() - interval '1 second'"))
            )

    return past


@pytest.fixture
def in_status(
    database: Database, identity: Identity, queue_job: Callable[..., str], claim: Callable[..., Claim | None]
) -> Callable[..., str]:
    """in_status(status): a job that came to that status the ordinary way -> its id. Leaves nothing queued behind."""

    def make(status: JobStatus, **sections: Any) -> str:
        job_id = queue_job(**sections)
        if status in (JobStatus.QUEUED, JobStatus.PAUSED):
            if status is JobStatus.PAUSED:
                with database.transaction() as session:
                    jobs.request_pause(session, identity, job_id)
            return job_id
        claimed = claim()
        assert claimed is not None
        assert claimed.job_id == job_id
        with database.transaction() as session:
            if status is JobStatus.PAUSING:
                jobs.request_pause(session, identity, job_id)
            if status in (JobStatus.CANCELLING, JobStatus.CANCELLED):
                jobs.request_cancel(session, identity, job_id)
            if status in (JobStatus.CANCELLED, JobStatus.SUCCEEDED):
                leases.finish(session, job_id, claimed.attempt, status)
            if status is JobStatus.FAILED:
                leases.finish(session, job_id, claimed.attempt, status, FAILURE)
        return job_id

    return make
