"""Where a queued job stands: its place in line, why it waits, and for about how long."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from store.models import Job, Worker
from store.status import LEASED, JobStatus
from store.workers import alive

Slot = Literal["gpu", "cpu"]
WaitReason = Literal["starting", "no_worker", "no_gpu_worker", "slots_taken"]


@dataclass(frozen=True)
class QueueInfo:
    position: int
    """1 is next, among the jobs that wait for slots of the same kind."""
    wait_reason: WaitReason
    eta_seconds: float | None
    """Until it starts; None when nothing is known to end."""


def queue_info(session: Session, job: Job) -> QueueInfo | None:
    """None unless the job is queued. The order is the one in which store.leases.claim takes jobs."""
    if job.status is not JobStatus.QUEUED:
        return None
    workers = session.execute(select(Worker.gpus, Worker.cpu_slots).where(alive())).all()
    # Without workers nobody knows what an auto job will take.
    auto: set[Slot] = {"gpu" if gpus > 0 else "cpu" for gpus, _ in workers} or {"gpu", "cpu"}
    ahead = _jobs_ahead(session, job, auto)
    slots = sum(_slots(job.gpus, gpus, cpu_slots) for gpus, cpu_slots in workers)
    if slots == 0:
        return QueueInfo(ahead + 1, "no_gpu_worker" if workers and job.gpus else "no_worker", None)
    remaining = _remaining_seconds(session, job)
    free = slots - len(remaining)
    if ahead < free:
        return QueueInfo(ahead + 1, "starting", 0.0)
    # The job starts when as many of the running ones have ended as are in its way.
    ends = sorted(seconds for seconds in remaining if seconds is not None)
    in_the_way = ahead - max(free, 0)
    eta = ends[in_the_way] if in_the_way < len(ends) and len(ends) == len(remaining) else None
    return QueueInfo(ahead + 1, "slots_taken", eta)


def _kinds(wanted: int | None, auto: set[Slot]) -> set[Slot]:
    """The kinds of slots that a job which wants so many GPUs (None: auto) may take."""
    if wanted is None:
        return auto
    return {"gpu"} if wanted else {"cpu"}


def _jobs_ahead(session: Session, job: Job, auto: set[Slot]) -> int:
    """Those that are claimed before this one and may take a slot that it could take."""
    leased = (
        select(Job.team_id, func.count().label("jobs"))
        .where(Job.status.in_(LEASED))
        .group_by(Job.team_id)
        .subquery("leased")
    )
    mine = select(func.coalesce(func.sum(leased.c.jobs), 0)).where(leased.c.team_id == job.team_id).scalar_subquery()
    other = aliased(Job)
    theirs = func.coalesce(leased.c.jobs, 0)
    kinds = _kinds(job.gpus, auto)
    rivals = [other.gpus == 0] * ("cpu" in kinds) + [other.gpus > 0] * ("gpu" in kinds)
    rivals += [other.gpus.is_(None)] * bool(auto & kinds)
    before = or_(
        other.priority > job.priority,
        and_(
            other.priority == job.priority,
            or_(
                theirs < mine,
                and_(
                    theirs == mine,
                    or_(other.queued_at < job.queued_at, and_(other.queued_at == job.queued_at, other.id < job.id)),
                ),
            ),
        ),
    )
    statement = (
        select(func.count())
        .select_from(other)
        .outerjoin(leased, leased.c.team_id == other.team_id)
        .where(other.status == JobStatus.QUEUED, or_(*rivals), before)
    )
    return session.scalars(statement).one()


def _slots(wanted: int | None, gpus: int, cpu_slots: int) -> int:
    """How many jobs that want so many GPUs (None: auto) a worker can run at once."""
    if wanted is None:
        return gpus or cpu_slots
    return cpu_slots if wanted == 0 else gpus // wanted


def _remaining_seconds(session: Session, job: Job) -> list[float | None]:
    """Of each running job that holds a slot this one could take; None where its pace is unknown."""
    uses_gpu = func.coalesce(Job.gpus, Worker.gpus) > 0
    statement = (
        select((Job.steps - Job.step) * Job.seconds_per_step)
        .join(Worker, Worker.id == Job.worker_id)
        # Slots are counted of live workers only, so what the dead ones still hold must not be taken off them.
        .where(Job.status.in_(LEASED), alive())
    )
    if job.gpus is None:
        # An auto job leaves the CPU slots of a worker with GPUs alone.
        return list(session.scalars(statement.where(or_(uses_gpu, Worker.gpus == 0))))
    return list(session.scalars(statement.where(uses_gpu if job.gpus > 0 else ~uses_gpu)))
