"""Takes jobs from workers that no longer renew, and counts what waits, so that a lost doorbell is rung again.

Any number of workers may sweep at once. A caller that could not reach the database waits one lease before it sweeps
again: while the database was away nobody could renew, and the others get that long to come back.
"""

import time
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import TimeoutError
from sqlalchemy.orm import Session

from store import reservations, workers
from store.leases import release
from store.models import Job, Worker
from store.policy import DEFAULT, Policy
from store.status import LEASED, JobStatus

_AT_ONCE = 100
_SILENT_LEASES = 3
_HUNG_SHARE = 6


@dataclass(frozen=True)
class SweepResult:
    expired: list[str]
    """Ids of the jobs that were taken away."""
    queued: int
    """How many jobs wait; the caller rings the doorbell when it is not 0."""


def sweep(
    session: Session, lease_seconds: float, policy: Policy = DEFAULT, *, asked_at: float | None = None
) -> SweepResult:
    """Release every job whose lease has run out (code `lease_expired`); mark workers silent for 3 leases lost; see
    which workers are to be kept free for large jobs.

    asked_at: time.monotonic() before the transaction was begun. When the answer took longer than a sixth of a lease the
    database hung, and nobody could renew: sqlalchemy.exc.TimeoutError, and nothing is taken away. Otherwise the sweep
    that was on its way when it hung would be the first to be answered.
    """
    now = func.clock_timestamp()
    lease = func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds)
    expired = session.execute(
        select(Job.id, Job.attempt, Worker.name, Worker.host)
        .outerjoin(Worker, Worker.id == Job.worker_id)
        # A database that has only just started has kept everyone from renewing.
        .where(Job.status.in_(LEASED), Job.lease_until < now, func.pg_postmaster_start_time() < now - lease)
        .order_by(Job.id)
        .limit(_AT_ONCE)
        .with_for_update(of=Job, skip_locked=True)
    ).all()
    if asked_at is not None and time.monotonic() - asked_at > lease_seconds / _HUNG_SHARE:
        raise TimeoutError("the database took too long to answer a sweep")
    for job_id, attempt, name, host in expired:
        release(
            session,
            job_id,
            attempt,
            crashed=True,
            evidence=[f"worker {name} on {host} did not renew its lease of {lease_seconds:g} s"],
            code="lease_expired",
            message="the worker was not heard from",
            charged=True,
        )
    workers.mark_lost(session, _SILENT_LEASES * lease_seconds)
    reservations.keep_workers_free(session, policy)
    queued = session.scalars(select(func.count()).select_from(Job).where(Job.status == JobStatus.QUEUED)).one()
    return SweepResult([row.id for row in expired], queued)
