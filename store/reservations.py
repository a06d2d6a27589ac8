"""Workers kept free for jobs of several GPUs, so that small jobs do not pass them by for ever.

The rule: of each priority, the first job of several GPUs that has waited long enough (`Policy.reserve_after_seconds`),
that its team may run and some worker could run, but that fits nowhere now, has one worker kept for it: the one where it
will fit soonest. On that worker's GPUs only it and jobs of a higher priority begin, nothing else, until it was claimed,
there or elsewhere. CPU slots are not concerned. A worker that is lost or leaves is kept for nobody.
"""

from dataclasses import dataclass

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store import cluster
from store.cluster import Room
from store.demand import CLASSES_SQL, Demand
from store.models import Job, Reservation, Worker
from store.policy import Policy
from store.status import JobStatus
from store.tenancy import platform_view
from store.workers import alive

_LOCK = 0x4B454550


@dataclass(frozen=True)
class _Large:
    """The first job of its team and demand."""

    id: str
    team_id: str
    demand: Demand
    priority: int


# The best of each team and demand that asks for several GPUs, of those that have waited long enough.
_LARGE = text(f"""
WITH RECURSIVE {CLASSES_SQL}
SELECT head.id, class.team_id, class.demand, head.priority, head.queued_at
FROM class CROSS JOIN LATERAL (
    SELECT id, priority, queued_at FROM jobs
    WHERE team_id = class.team_id AND demand = class.demand AND status = 'queued'
    ORDER BY priority DESC, queued_at, id LIMIT 1
) AS head
WHERE split_part(class.demand, '/', 1) NOT IN ('auto', '0', '1')
  AND head.queued_at < clock_timestamp() - make_interval(secs => :after)
""")  # noqa: S608 - composed of constants of this package


def keep_workers_free(session: Session, policy: Policy) -> list[str]:
    """End the reservations that have no more reason and make those that have one; the workers newly kept.

    When two come at once the second leaves it to the first.
    """
    if not session.scalars(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}).one():
        return []
    large = session.execute(_LARGE, {"after": policy.reserve_after_seconds}).all()
    if not large and session.scalars(select(Reservation.worker_id).limit(1)).first() is None:
        return []
    kept = _end_idle(session, policy)
    rooms = cluster.rooms(session)
    teams = cluster.teams(session, sorted({row.team_id for row in large}), policy)
    # Within a priority as the claim takes them.
    made = []
    for row in sorted(large, key=lambda row: (-row.priority, teams[row.team_id].gpu_share, row.queued_at, row.id)):
        job = _Large(row.id, row.team_id, Demand.parse(row.demand), row.priority)
        if job.priority in kept or not teams[job.team_id].may_take(job.demand.gpus or 0):
            continue
        room = _soonest(rooms, job)
        if room is not None:
            kept.add(job.priority)
            room.kept = cluster.Kept(job.id, job.priority, job.demand.gpus or 0)
            session.execute(insert(Reservation).values(worker_id=room.id, job_id=job.id).on_conflict_do_nothing())
            made.append(room.id)
    return made


def kept_gpus(session: Session) -> dict[str, int]:
    """Worker id -> the GPUs of the job that it is kept for."""
    statement = select(Reservation.worker_id, Job.gpus).join(Job, Job.id == Reservation.job_id)
    with platform_view(session):
        rows = session.execute(statement.where(Job.status == JobStatus.QUEUED)).all()
    return {worker_id: gpus or 0 for worker_id, gpus in rows}


def _end_idle(session: Session, policy: Policy) -> set[int]:
    """Delete the reservations that hold for nobody; the priorities of those that remain."""
    rows = session.execute(
        select(Reservation.worker_id, Job.status, Job.team_id, Job.gpus, Job.priority, alive())
        .join(Job, Job.id == Reservation.job_id)
        .join(Worker, Worker.id == Reservation.worker_id)
    ).all()
    teams = cluster.teams(session, sorted({team_id for _, _, team_id, *_ in rows}), policy)
    remaining = set()
    for worker_id, status, team_id, gpus, priority, there in rows:
        if there and status is JobStatus.QUEUED and teams[team_id].may_take(gpus or 0):
            remaining.add(priority)
        else:
            session.execute(delete(Reservation).where(Reservation.worker_id == worker_id))
    return remaining


def _soonest(rooms: list[Room], job: _Large) -> Room | None:
    """The worker to keep for it; None when it fits somewhere now, or nowhere ever."""
    possible = [room for room in rooms if room.suits(job.demand) and not room.is_kept_from(job.id, job.priority)]
    if any(room.has_room(job.demand, room.free_gpus, 0) for room in possible):
        return None

    def wait(room: Room) -> tuple[bool, float, int, str]:
        seconds = room.seconds_until_free(job.demand)
        # Where nothing is known of the running jobs, the one with the most GPUs free already.
        return (seconds is None, seconds or 0.0, -room.free_gpus, room.id)

    return min((room for room in possible if room.kept is None), key=wait, default=None)
