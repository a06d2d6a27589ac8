"""More jobs than there is room for, several workers: each job runs once, whole, and none is left."""

from collections import Counter

from sqlalchemy import select

from store.models import Checkpoint, Job, JobEvent, JobMetric
from store.status import JobStatus

JOBS, STEPS = 12, 4


def test_twelve_jobs_through_two_workers_of_two_slots(database, submit, start_worker, wait_until):
    ids = {submit(f"job {number}", steps=STEPS, every=2) for number in range(JOBS)}
    for name in ("one", "two"):
        start_worker(name, cpu_slots=2, lease_seconds=60)

    def counted():
        with database.transaction() as session:
            return Counter(session.scalars(select(Job.status)))

    wait_until(lambda: counted() == {JobStatus.SUCCEEDED: JOBS}, seconds=90)
    with database.transaction() as session:
        assert set(session.execute(select(Job.attempt, Job.crashes, Job.step))) == {(1, 0, STEPS)}
        rows = Counter(session.execute(select(JobMetric.job_id, JobMetric.step)))
        assert rows == {(id, step): 1 for id in ids for step in range(1, STEPS + 1)}
        states = Counter(session.scalars(select(JobEvent.job_id).where(JobEvent.type == "state")))
        assert states == dict.fromkeys(ids, 3)  # queued, running, succeeded
        kept = select(Checkpoint.job_id, Checkpoint.step).where(Checkpoint.deleted_at.is_(None))
        assert set(session.execute(kept)) == {(id, step) for id in ids for step in (2, 4)}
        assert len(set(session.scalars(select(Job.worker_id)))) == 2
