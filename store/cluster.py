"""The platform as its queue sees it: each worker with what is free of it, each team with what it may still use.

Read in a few queries, however many jobs wait; what follows from it is computed here and in store.forecast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, aliased

from store.demand import Demand
from store.models import Job, Reservation, Worker
from store.policy import Policy
from store.status import LEASED, JobStatus
from store.usage import TEAM_SQL, team_values
from store.workers import alive


class Running(NamedTuple):
    team_id: str
    gpus: int
    """0: a CPU slot."""
    seconds: float | None
    """Until it ends; None where its pace is unknown."""


class Kept(NamedTuple):
    """For whom a worker's GPUs are kept free."""

    job_id: str
    priority: int
    gpus: int


@dataclass
class Room:
    """A worker that takes jobs."""

    id: str
    name: str
    gpus: int
    cpu_slots: int
    memory: list[int | None] = field(default_factory=list)
    """GB of each GPU; None where unknown."""
    labels: frozenset[str] = frozenset()
    running: list[Running] = field(default_factory=list)
    kept: Kept | None = None

    @property
    def free_gpus(self) -> int:
        return self.gpus - sum(each.gpus for each in self.running)

    @property
    def free_cpu_slots(self) -> int:
        return self.cpu_slots - sum(each.gpus == 0 for each in self.running)

    def suits(self, demand: Demand) -> bool:
        """Whether such a job can run here once enough is free."""
        takes = demand.takes(self.gpus)
        if not set(demand.labels) <= self.labels:
            return False
        return self.cpu_slots > 0 if takes == 0 else demand.suits(self.memory) >= takes

    def has_room(self, demand: Demand, free_gpus: int, free_cpu_slots: int) -> bool:
        """Whether such a job fits into what is free. Which of unlike GPUs are free is not known here, so it may not."""
        takes = demand.takes(self.gpus)
        return free_cpu_slots > 0 if takes == 0 else takes <= min(free_gpus, demand.suits(self.memory))

    def is_kept_from(self, job_id: str, priority: int) -> bool:
        """Whether its GPUs are kept free for another job."""
        return self.kept is not None and job_id != self.kept.job_id and priority <= self.kept.priority

    def seconds_until_free(self, demand: Demand) -> float | None:
        """Until enough of what runs has ended; None when that is not known."""
        free = self.free_gpus
        ends: list[tuple[float, int]] = [(0.0, 0)]
        ends += sorted((each.seconds, each.gpus) for each in self.running if each.seconds is not None and each.gpus)
        for seconds, gpus in ends:
            free += gpus
            if self.has_room(demand, free, 0):
                return seconds
        return None


@dataclass(frozen=True)
class TeamStanding:
    id: str
    running_gpus: int
    max_running_gpus: int | None
    gpu_seconds_this_month: float
    max_gpu_seconds: float | None
    gpu_share: float
    cpu_share: float

    def may_take(self, gpus: int) -> bool:
        """Whether a job on so many GPUs may begin now."""
        if gpus == 0:
            return True
        within = self.max_running_gpus is None or self.running_gpus + gpus <= self.max_running_gpus
        return within and not self.hours_used_up

    @property
    def hours_used_up(self) -> bool:
        return self.max_gpu_seconds is not None and self.gpu_seconds_this_month >= self.max_gpu_seconds


# One statement, since every look at a queued job asks it. What lost workers still hold is not taken off the others.
_HELD = (
    select(
        Job.worker_id,
        func.json_agg(
            func.json_build_array(
                Job.team_id,
                Job.model,
                func.coalesce(Job.leased_gpus, 0),
                func.greatest(Job.steps - Job.step, 0),
                Job.seconds_per_step,
                Job.max_runtime - Job.used_seconds,
            )
        ).label("jobs"),
    )
    .where(Job.status.in_(LEASED))
    .group_by(Job.worker_id)
    .subquery()
)
_WAITING = aliased(Job)
_ROOMS = (
    select(
        Worker.id,
        Worker.name,
        Worker.gpus,
        Worker.cpu_slots,
        Worker.devices,
        Worker.labels,
        _HELD.c.jobs,
        _WAITING.id.label("kept_for"),
        _WAITING.priority,
        _WAITING.gpus.label("kept_gpus"),
    )
    .outerjoin(_HELD, _HELD.c.worker_id == Worker.id)
    .outerjoin(Reservation, Reservation.worker_id == Worker.id)
    .outerjoin(_WAITING, (_WAITING.id == Reservation.job_id) & (_WAITING.status == JobStatus.QUEUED))
    .where(alive())
    .order_by(Worker.id)
)


def rooms(session: Session) -> list[Room]:
    """The workers that take jobs, with what runs on them."""
    rows = session.execute(_ROOMS).all()
    unpaced = {(held[0], held[1]) for row in rows for held in row.jobs or () if held[4] is None}
    past = paces(session, unpaced)
    return [
        Room(
            row.id,
            row.name,
            row.gpus,
            row.cpu_slots,
            memory=_memory(row.devices, row.gpus),
            labels=frozenset(row.labels),
            running=[
                Running(team_id, gpus, length(steps, past.get((team_id, model)) if pace is None else pace, left))
                for team_id, model, gpus, steps, pace, left in row.jobs or ()
            ],
            kept=None if row.kept_for is None else Kept(row.kept_for, row.priority, row.kept_gpus or 0),
        )
        for row in rows
    ]


def length(steps: int, pace: float | None, seconds_left: float | None) -> float | None:
    """Seconds that so many steps take at most; None where the pace is unknown. seconds_left: of its max_runtime."""
    if pace is None:
        return None
    seconds = steps * pace
    return seconds if seconds_left is None else min(seconds, max(seconds_left, 0.0))


_TEAMS = text(f"{TEAM_SQL} WHERE teams.id = ANY(:teams)")


def teams(session: Session, team_ids: Sequence[str], policy: Policy) -> dict[str, TeamStanding]:
    rows = session.execute(_TEAMS, {"teams": list(team_ids), **team_values(policy)})
    return {
        row.id: TeamStanding(
            row.id,
            row.running_gpus,
            row.max_running_gpus,
            row.gpu_seconds_this_month,
            None if row.max_gpu_seconds is None else float(row.max_gpu_seconds),
            row.gpu_share,
            row.cpu_share,
        )
        for row in rows
    }


# The last five of a team on a model; the median, since one that was slowed down must not set the pace.
_PACES = text("""
SELECT pair.team_id, pair.model, past.seconds
FROM unnest(CAST(:teams AS text[]), CAST(:models AS text[])) AS pair (team_id, model)
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds_per_step) AS seconds FROM (
        SELECT seconds_per_step FROM jobs
        WHERE team_id = pair.team_id AND model = pair.model AND started_at IS NOT NULL AND seconds_per_step IS NOT NULL
        ORDER BY id DESC LIMIT 5
    ) AS last
) AS past
WHERE past.seconds IS NOT NULL
""")


def paces(session: Session, pairs: set[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """(team, model) -> seconds per step that its last jobs on that model were measured with."""
    if not pairs:
        return {}
    ordered = sorted(pairs)
    values = {"teams": [team for team, _ in ordered], "models": [model for _, model in ordered]}
    return {(team_id, model): seconds for team_id, model, seconds in session.execute(_PACES, values)}


def _memory(devices: Sequence[Mapping[str, Any]], gpus: int) -> list[int | None]:
    known: list[int | None] = [device.get("memory_gb") for device in devices][:gpus]
    return known + [None] * (gpus - len(known))
