"""Where a queued job stands: its place in line, why it waits, and for about how long."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    workers = session.execute(select(Worker.id, Worker.gpus, Worker.cpu_slots).where(alive())).all()
    # Without workers nobody knows what an auto job will take.
    auto: set[Slot] = {"gpu" if worker.gpus > 0 else "cpu" for worker in workers} or {"gpu", "cpu"}
    ahead = _jobs_ahead(session, job, auto)
    free = {worker.id: _Free(worker.gpus > 0, worker.gpus, worker.cpu_slots) for worker in workers}

    def places() -> int:
        return sum(each.places(job.gpus) for each in free.values())

    if places() == 0:
        return QueueInfo(ahead + 1, "no_gpu_worker" if workers and job.gpus else "no_worker", None)
    running = _running(session)
    for each in running:
        free[each.worker_id].change(each.gpus, -1)
    if ahead < places():
        return QueueInfo(ahead + 1, "starting", 0.0)
    # The job starts when enough of the running ones have ended for it and for those before it.
    in_the_way = [each for each in running if free[each.worker_id].is_for_gpus(job.gpus) == (each.gpus > 0)]
    eta = None
    if all(each.seconds is not None for each in in_the_way):
        for each in sorted(in_the_way, key=lambda each: each.seconds or 0.0):
            free[each.worker_id].change(each.gpus, +1)
            if ahead < places():
                eta = each.seconds
                break
    return QueueInfo(ahead + 1, "slots_taken", eta)


@dataclass
class _Free:
    """What nobody uses of a worker."""

    has_gpus: bool
    gpus: int
    cpu_slots: int

    def is_for_gpus(self, wanted: int | None) -> bool:
        """Whether a job that wants so many GPUs (None: auto) would run on GPUs here."""
        return self.has_gpus if wanted is None else wanted > 0

    def places(self, wanted: int | None) -> int:
        """How many such jobs there is room for."""
        return self.gpus // (wanted or 1) if self.is_for_gpus(wanted) else self.cpu_slots

    def change(self, gpus: int, jobs: int) -> None:
        """Jobs on so many GPUs each (0: on the CPU) have ended, or begun."""
        self.gpus += jobs * gpus
        self.cpu_slots += jobs * (gpus == 0)


class _Running(NamedTuple):
    worker_id: str
    gpus: int
    seconds: float | None
    """Until it ends; None where its pace is unknown."""


def _running(session: Session) -> list[_Running]:
    """The jobs on live workers: what the dead ones still hold must not be taken off the others."""
    statement = (
        select(
            Job.worker_id,
            func.coalesce(Job.gpus, func.least(Worker.gpus, 1)),
            (Job.steps - Job.step) * Job.seconds_per_step,
        )
        .join(Worker, Worker.id == Job.worker_id)
        .where(Job.status.in_(LEASED), alive())
    )
    return [_Running(str(worker_id), gpus, seconds) for worker_id, gpus, seconds in session.execute(statement)]


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
