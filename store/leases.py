"""The worker's side of a job: claim it, keep it, write for it, give it back. Everything is fenced by the attempt.

A claim raises the job's attempt number and sets a lease by the database's clock. Whoever comes with an older number
gets LeaseLost, and nothing of that transaction is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from sqlalchemy import func, text, update
from sqlalchemy.orm import Session

from store.checkpoints import StoredCheckpoint
from store.errors import Conflict, LeaseLost, NotFound
from store.fencing import hold, lock
from store.jobs import requeue
from store.journal import announce, move, storable
from store.models import Job, Worker
from store.recording import record as record
from store.status import LEASED, JobStatus

_CONTENDERS = 32
"""How many jobs a claim looks at, best first: more than the claims that are under way at the same moment."""

_COUNTED = 256
"""Up to how many running jobs of a team are counted to compare teams; beyond it they count as equally busy."""


@dataclass(frozen=True)
class Claim:
    """A job this worker now holds."""

    job_id: str
    attempt: int
    spec: dict[str, Any]
    """As stored: resolved by trainer.spec when the job was made."""
    team_id: str
    gpus: int
    """How many of the worker's GPUs it takes; 0: one CPU slot."""
    resume: StoredCheckpoint | None
    """The newest checkpoint to go on from, its own or that of the job it continues; None: from the beginning."""


class Failure(TypedDict):
    """Why a job failed."""

    kind: Literal["user", "infrastructure"]
    code: str
    message: str
    evidence: list[str]


class PauseReason(TypedDict):
    """Why the platform paused a job that nobody asked it to pause."""

    code: str
    message: str


# The best job that fits, in one statement. `head` reads only the first entries of the index ix_jobs_claim for each team
# and GPU count, so that a claim costs the same with ten jobs queued or ten thousand; `picked` then locks the best one
# that no other claim has locked. Order: priority, then teams with fewer running jobs, then who waits longest.
_CLAIM = text(f"""
WITH me AS (
    SELECT id, gpus FROM workers WHERE id = :worker_id
), contender AS (
    SELECT head.id, head.priority, head.queued_at, leased.jobs AS leased
    FROM teams
    CROSS JOIN LATERAL (
        (
            SELECT id, priority, queued_at FROM jobs
            WHERE team_id = teams.id AND status = 'queued' AND gpus IS NULL
              AND (SELECT CASE WHEN gpus > 0 THEN :free_gpus ELSE :free_cpu_slots END FROM me) > 0
            ORDER BY priority DESC, queued_at, id LIMIT {_CONTENDERS}
        )
        UNION ALL
        SELECT fitting.* FROM unnest(CAST(:fitting AS smallint[])) AS wanted (gpus)
        CROSS JOIN LATERAL (
            SELECT id, priority, queued_at FROM jobs
            WHERE team_id = teams.id AND status = 'queued' AND gpus = wanted.gpus
            ORDER BY priority DESC, queued_at, id LIMIT {_CONTENDERS}
        ) AS fitting
    ) AS head
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM jobs
            WHERE team_id = teams.id AND status IN ('running', 'pausing', 'cancelling') LIMIT {_COUNTED}
        ) AS counted
    ) AS leased
    ORDER BY head.priority DESC, leased.jobs, head.queued_at, head.id LIMIT {_CONTENDERS}
), picked AS (
    SELECT jobs.id FROM contender JOIN jobs ON jobs.id = contender.id
    WHERE jobs.status = 'queued'
    ORDER BY contender.priority DESC, contender.leased, contender.queued_at, contender.id
    LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
), claimed AS (
    UPDATE jobs SET
        status = 'running', attempt = attempt + 1, batch = 0, worker_id = me.id,
        lease_until = clock_timestamp() + make_interval(secs => :lease_seconds),
        started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM picked, me WHERE jobs.id = picked.id
    RETURNING
        jobs.id, jobs.attempt, jobs.spec, jobs.team_id, jobs.worker_id, coalesce(jobs.gpus, least(me.gpus, 1)) AS gpus,
        jobs.continues
), noted AS (
    INSERT INTO job_events (job_id, attempt, level, type, message, data)
    SELECT id, attempt, 'info', 'state', 'running', jsonb_build_object('status', 'running', 'worker_id', worker_id)
    FROM claimed
)
SELECT claimed.*, resume.step, resume.path
FROM claimed LEFT JOIN LATERAL (
    SELECT step, path FROM checkpoints
    WHERE job_id IN (claimed.id, claimed.continues) AND deleted_at IS NULL AND superseded_at IS NULL
    ORDER BY job_id = claimed.id DESC, step DESC LIMIT 1
) AS resume ON true
""")  # noqa: S608 - composed of constants of this package


def claim(session: Session, worker_id: str, free_gpus: int, free_cpu_slots: int, lease_seconds: float) -> Claim | None:
    """Take the best queued job that fits; None when none does. NotFound for a worker that is not registered.

    A job that leaves the number of GPUs to Asym takes one GPU of a worker that has any (and waits there for a free
    one), else a CPU slot.
    """
    row = session.execute(
        _CLAIM,
        {
            "worker_id": worker_id,
            "free_gpus": free_gpus,
            "free_cpu_slots": free_cpu_slots,
            "fitting": [0] * (free_cpu_slots > 0) + list(range(1, free_gpus + 1)),
            "lease_seconds": lease_seconds,
        },
    ).one_or_none()
    if row is None:
        if session.get(Worker, worker_id) is None:
            raise NotFound("worker", worker_id)
        return None
    announce(session, row.id)
    resume = None if row.step is None else StoredCheckpoint(row.step, row.path)
    return Claim(row.id, row.attempt, row.spec, row.team_id, row.gpus, resume)


def renew(session: Session, job_id: str, attempt: int, lease_seconds: float) -> JobStatus:
    """Extend the lease; the answer (running, pausing or cancelling) is what is wanted of the job.

    LeaseLost when the job was taken away. A lease that ran out but was not taken away is renewed: then nobody else
    has begun, and the run can go on.
    """
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(LEASED))
        .values(
            lease_until=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds),
            updated_at=Job.updated_at,
        )
        .returning(Job.status)
        .execution_options(synchronize_session=False)
    )
    status = session.scalars(statement).one_or_none()
    if status is None:
        raise LeaseLost(f"attempt {attempt} no longer holds {job_id}")
    return status


def finish(
    session: Session,
    job_id: str,
    attempt: int,
    status: Literal[JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED],
    failure: Failure | None = None,
) -> JobStatus:
    """The run is over, for good or paused; the answer is the status the job has now.

    LeaseLost when the attempt no longer holds the job; Conflict for a pause or cancellation that nobody asked for.
    A replay (same attempt, same status) changes nothing. A pause that arrives when cancellation was asked for in the
    meantime cancels.
    """
    job = lock(session, job_id)
    ended = {status, JobStatus.CANCELLED} if status is JobStatus.PAUSED else {status}
    if job is not None and job.attempt == attempt and job.status in ended:
        return job.status
    job = hold(session, job_id, attempt)
    if status is JobStatus.PAUSED and job.status is JobStatus.CANCELLING:
        status = JobStatus.CANCELLED
    if status is JobStatus.PAUSED and job.status is JobStatus.RUNNING:
        raise Conflict(f"nobody asked {job_id} to pause")  # what must be paused all the same: set_aside
    if status is JobStatus.FAILED:
        if failure is None:
            raise ValueError("a failed job needs its failure")
        _fail(session, job, failure)
    elif status is JobStatus.PAUSED:
        _pause(session, job)
    else:
        move(session, job, status, status.value)
    return job.status


def release(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    crashed: bool,
    evidence: Sequence[str] = (),
    code: str = "attempt_crashed",
    message: str = "the attempt crashed",
) -> JobStatus:
    """Give a job back; the answer is the status it has now.

    Queued again (in its old place) for another attempt, unless it was to be cancelled or paused: then it is. A crash
    is counted, and the job fails (kind infrastructure, `code`, `message`, `evidence`) once its crashes reach
    max_attempts. LeaseLost when the attempt no longer holds the job.
    """
    job = hold(session, job_id, attempt)
    if crashed:
        job.crashes += 1
    if job.status is JobStatus.CANCELLING:
        move(session, job, JobStatus.CANCELLED, "cancelled")
    elif crashed and job.crashes >= job.max_attempts:
        failure: Failure = {
            "kind": "infrastructure",
            "code": code,
            "message": f"{message}; {job.crashes} of {job.max_attempts} attempts were lost",
            "evidence": list(evidence),
        }
        _fail(session, job, failure)
    elif job.status is JobStatus.PAUSING:
        _pause(session, job, evidence)
    else:
        data = {"crashed": crashed, "code": code, "evidence": list(evidence)} if crashed else {"crashed": False}
        move(session, job, JobStatus.QUEUED, f"queued again: {message}" if crashed else "queued again", data)
    return job.status


def set_aside(session: Session, job_id: str, attempt: int, reason: PauseReason) -> JobStatus:
    """Pause a job that cannot go on until something is done about the platform; the answer is its status now.

    No crash is counted: the job is well, and its last checkpoint is. It is cancelled if that was asked for.
    LeaseLost when the attempt no longer holds the job.
    """
    job = hold(session, job_id, attempt)
    job.resume_after_pause = False
    if job.status is JobStatus.CANCELLING:
        move(session, job, JobStatus.CANCELLED, "cancelled")
    else:
        job.pause_reason = storable(dict(reason))
        move(session, job, JobStatus.PAUSED, f"paused: {reason['message']}", {"reason": job.pause_reason})
    return job.status


def _pause(session: Session, job: Job, evidence: Sequence[str] = ()) -> None:
    move(session, job, JobStatus.PAUSED, "paused", {"evidence": list(evidence)} if evidence else None)
    if job.resume_after_pause:
        job.resume_after_pause = False
        requeue(session, job)


def _fail(session: Session, job: Job, failure: Failure) -> None:
    # The evidence is what a process printed: any bytes, and none of them may keep the job from ending.
    job.failure = storable(dict(failure))
    move(session, job, JobStatus.FAILED, failure["message"], {"failure": job.failure})
