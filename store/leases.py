"""The worker's side of a job: claim it, keep it, write for it, give it back. Everything is fenced by the attempt.

A claim raises the job's attempt number and sets a lease by the database's clock. Whoever comes with an older number
gets LeaseLost, and nothing of that transaction is written.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from sqlalchemy import text
from sqlalchemy.orm import Session

from store.checkpoints import StoredCheckpoint
from store.database import revocable
from store.demand import CLASSES_SQL, Demand
from store.errors import Conflict, LeaseLost, NotFound
from store.fencing import hold, lock
from store.jobs import requeue
from store.journal import announce, move, storable
from store.models import Job, Worker
from store.policy import DEFAULT, Policy
from store.recording import record as record
from store.status import JobStatus
from store.usage import TEAM_SQL, charge, running_gpus, team_values

_CONTENDERS = 16
"""How many jobs a claim looks at, best first; when others take all of them while it looks, at four times as many."""
_MOST_CONTENDERS = 256

_CLASSES = 16
"""Of how many (team, demand) they may be, those with the best first jobs."""


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
    gpu_memory: int | None = None
    """GB that each of its GPUs has at least."""
    seconds_left: float | None = None
    """Until its max_runtime is used up; None where it has none."""
    kind: str = "train"
    """Or serve: a sampler (store.samplers)."""


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


# The best job that fits, in one statement. `class` hops through the index ix_jobs_claim from one (team, demand) to the
# next, and `contender` reads the first entries of the best ones that fit, so that a claim costs the same with ten jobs
# queued or ten thousand, and no job that nobody can run now stands before one that somebody can. `picked` locks the
# best one that no other claim has locked. Order: priority, then teams that have used least of this kind of slot lately,
# then who waits longest.
_CLAIM = text(f"""
WITH RECURSIVE me AS (
    SELECT workers.id, workers.gpus, workers.labels, reserved.id AS reserved_for, reserved.priority AS reserved_at,
           reserved.team_id AS reserved_team, reserved.demand AS reserved_demand
    FROM workers
    LEFT JOIN reservations ON reservations.worker_id = workers.id
    LEFT JOIN jobs AS reserved ON reserved.id = reservations.job_id AND reserved.status = 'queued'
    WHERE workers.id = :worker_id
), {CLASSES_SQL}, fitting AS (
    SELECT class.team_id, class.demand, asked.takes, me.reserved_for, me.reserved_at,
           (class.team_id, class.demand) IS NOT DISTINCT FROM (me.reserved_team, me.reserved_demand) AS reserved
    FROM me CROSS JOIN class CROSS JOIN LATERAL (
        SELECT coalesce(CAST(nullif(split_part(class.demand, '/', 1), 'auto') AS int), least(me.gpus, 1)) AS takes,
               CAST(nullif(split_part(class.demand, '/', 2), '') AS int) AS memory,
               string_to_array(split_part(class.demand, '/', 3), ',') AS labels
    ) AS asked
    WHERE asked.labels <@ me.labels
      AND CASE WHEN asked.takes = 0 THEN :free_cpu_slots > 0
          ELSE asked.takes <= (
              SELECT count(*) FROM unnest(CAST(:free_gpus AS int[])) AS gpu (memory)
              WHERE asked.memory IS NULL OR gpu.memory >= asked.memory
          ) END
), team AS (
    {TEAM_SQL}
    WHERE teams.id IN (SELECT team_id FROM fitting)
), best_class AS (
    SELECT fitting.*, team.max_running_gpus,
           CASE WHEN fitting.takes > 0 THEN team.gpu_share ELSE team.cpu_share END AS share
    FROM fitting
    JOIN team ON team.id = fitting.team_id
    CROSS JOIN LATERAL (
        SELECT id, priority, queued_at FROM jobs
        WHERE team_id = fitting.team_id AND demand = fitting.demand AND status = 'queued'
        ORDER BY priority DESC, queued_at, id LIMIT 1
    ) AS head
    WHERE fitting.takes = 0 OR (
        (team.max_running_gpus IS NULL OR team.running_gpus + fitting.takes <= team.max_running_gpus)
        AND (team.max_gpu_seconds IS NULL OR team.gpu_seconds_this_month < team.max_gpu_seconds)
        AND (fitting.reserved_for IS NULL OR fitting.reserved OR head.priority > fitting.reserved_at)
    )
    ORDER BY head.priority DESC, share, head.queued_at, head.id LIMIT {_CLASSES}
), contender AS (
    SELECT head.id, head.priority, head.queued_at, class.takes, class.max_running_gpus, class.share
    FROM best_class AS class
    CROSS JOIN LATERAL (
        SELECT id, priority, queued_at FROM jobs
        WHERE team_id = class.team_id AND demand = class.demand AND status = 'queued'
        ORDER BY priority DESC, queued_at, id LIMIT :contenders
    ) AS head
    WHERE class.takes = 0 OR class.reserved_for IS NULL OR head.id = class.reserved_for
       OR head.priority > class.reserved_at
    ORDER BY head.priority DESC, share, head.queued_at, head.id LIMIT :contenders
), picked AS (
    SELECT jobs.id, contender.takes, contender.max_running_gpus FROM contender JOIN jobs ON jobs.id = contender.id
    WHERE jobs.status = 'queued'
    ORDER BY contender.priority DESC, contender.share, contender.queued_at, contender.id
    LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
), claimed AS (
    UPDATE jobs SET
        status = 'running', attempt = attempt + 1, batch = 0, worker_id = :worker_id, leased_gpus = picked.takes,
        lease_until = clock_timestamp() + make_interval(secs => :lease_seconds), charged_at = clock_timestamp(),
        started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM picked WHERE jobs.id = picked.id AND (:guarded OR picked.takes = 0 OR picked.max_running_gpus IS NULL)
    RETURNING jobs.id, jobs.kind, jobs.attempt, jobs.spec, jobs.team_id, jobs.demand, picked.takes AS gpus,
              jobs.continues, jobs.max_runtime - jobs.used_seconds AS seconds_left, picked.max_running_gpus
), noted AS (
    INSERT INTO job_events (job_id, attempt, level, type, message, data)
    SELECT id, attempt, 'info', 'state', 'running',
           jsonb_build_object('status', 'running', 'worker_id', CAST(:worker_id AS text))
    FROM claimed
)
SELECT seen.cut_off, seen.picked, claimed.*, resume.step, resume.path
FROM (
    SELECT (SELECT count(*) FROM contender) = :contenders
               OR (SELECT count(*) FROM best_class) = {_CLASSES} AS cut_off,
           EXISTS (SELECT FROM picked) AS picked
) AS seen
LEFT JOIN claimed ON true
LEFT JOIN LATERAL (
    SELECT step, path FROM checkpoints
    WHERE job_id IN (claimed.id, claimed.continues) AND deleted_at IS NULL AND superseded_at IS NULL
    ORDER BY job_id = claimed.id DESC, step DESC LIMIT 1
) AS resume ON true
""")  # noqa: S608 - composed of constants of this package


def claim(
    session: Session,
    worker_id: str,
    free_gpus: int | Sequence[int | None],
    free_cpu_slots: int,
    lease_seconds: float,
    policy: Policy = DEFAULT,
) -> Claim | None:
    """Take the best queued job that fits; None when none does. NotFound for a worker that is not registered.

    free_gpus: the memory in GB of each free GPU, None where unknown; or how many of unknown memory.
    A job that leaves the number of GPUs to Asym takes one GPU of a worker that has any (and waits there for a free
    one), else a CPU slot. Cheapest in a session of `Database.statements`: then others see at once what is taken.
    """
    values = {
        "worker_id": worker_id,
        "free_gpus": [None] * free_gpus if isinstance(free_gpus, int) else list(free_gpus),
        "free_cpu_slots": free_cpu_slots,
        "lease_seconds": lease_seconds,
        **team_values(policy),
    }
    # To be taken back when the team's limit turns out to be reached; a job of a team without limit needs no such care.
    guarded = policy.limits.running_gpus is not None
    contenders = _CONTENDERS
    while True:
        with revocable(session) if guarded else nullcontext() as take_back:
            row = session.execute(_CLAIM, values | {"guarded": guarded, "contenders": contenders}).one()
            if row.id is not None:
                if take_back is None or _within_limit(session, row.team_id, row.gpus, row.max_running_gpus):
                    announce(session, row.id)
                    resume = None if row.step is None else StoredCheckpoint(row.step, row.path)
                    memory = Demand.parse(row.demand).gpu_memory
                    return Claim(
                        row.id, row.attempt, row.spec, row.team_id, row.gpus, resume, memory, row.seconds_left, row.kind
                    )
                take_back()
            elif row.picked:
                guarded = True
            elif not row.cut_off:
                break
            else:
                # Others took every job it looked at while it looked, and there are more behind.
                contenders = min(4 * contenders, _MOST_CONTENDERS)
    if session.get(Worker, worker_id) is None:
        raise NotFound("worker", worker_id)
    return None


_CLAIM_LOCK = 0x4755
"""Namespace of the advisory locks below."""


def _within_limit(session: Session, team_id: str, gpus: int, max_running_gpus: int | None) -> bool:
    """Whether the team's running jobs, the one just claimed included, are within its limit.

    The claim counted in a snapshot, in which a claim of the same moment is not to be seen. So those of one limited team
    pass here one by one, each counting anew; whoever comes too late takes its claim back and looks again.
    """
    if not gpus or max_running_gpus is None:
        return True
    session.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:team))"), {"space": _CLAIM_LOCK, "team": team_id}
    )
    return running_gpus(session, team_id) <= max_running_gpus


def renew(session: Session, job_id: str, attempt: int, lease_seconds: float, policy: Policy = DEFAULT) -> JobStatus:
    """Extend the lease, and charge for it up to now; the answer (running, pausing or cancelling) is what is wanted.

    LeaseLost when the job was taken away. A lease that ran out but was not taken away is renewed: then nobody else
    has begun, and the run can go on.
    """
    status = charge(session, job_id, attempt, policy, lease_seconds=lease_seconds)
    if status is None:
        raise LeaseLost(f"attempt {attempt} no longer holds {job_id}")
    return status


def finish(
    session: Session,
    job_id: str,
    attempt: int,
    status: Literal[JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED],
    failure: Failure | None = None,
    policy: Policy = DEFAULT,
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
    charge(session, job_id, attempt, policy)
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
    charged: bool = False,
    policy: Policy = DEFAULT,
) -> JobStatus:
    """Give a job back; the answer is the status it has now.

    Queued again (in its old place) for another attempt, unless it was to be cancelled or paused: then it is. A crash
    is counted, and the job fails (kind infrastructure, `code`, `message`, `evidence`) once its crashes reach
    max_attempts. LeaseLost when the attempt no longer holds the job. `charged`: for its time up to its last renewal
    only, because nobody was heard of since.
    """
    if not charged:
        charge(session, job_id, attempt, policy)
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
