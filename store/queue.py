"""Where a queued job stands: its place in line, why it waits, and for about how long.

The order is the one in which store.leases.claim takes jobs, as things are now: with the fair share, every job that runs
changes it a little. What nobody can run now is not counted before others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from store import cluster, wait_reasons
from store.cluster import Room, TeamStanding
from store.demand import CLASSES_SQL, Demand
from store.forecast import Waiting, forecast
from store.models import Job
from store.policy import DEFAULT, Policy
from store.status import JobStatus
from store.tenancy import platform_view
from store.wait_reasons import Reason

_HORIZON = 300
"""How many jobs at the head of the line are played through for an ETA; whoever stands behind gets none."""


@dataclass(frozen=True)
class QueueInfo:
    position: int
    """1 is next, among the jobs that wait for slots of the same kind."""
    code: wait_reasons.Code
    wait_reason: str
    """In words."""
    eta_seconds: float | None
    """Until it starts; None when that cannot be told."""


def queue_info(session: Session, job: Job, policy: Policy = DEFAULT, *, imagined: bool = False) -> QueueInfo | None:
    """None unless the job is queued. imagined: it is not in the database and only stands in line to see where."""
    return standings(session, [job], policy, imagined=imagined).get(job.id)


def standings(
    session: Session, jobs: Sequence[Job], policy: Policy = DEFAULT, *, imagined: bool = False
) -> dict[str, QueueInfo]:
    """By id, the place of each of these jobs that is queued. As many queries for one as for a hundred."""
    queued = [job for job in jobs if job.status is JobStatus.QUEUED]
    if not queued:
        return {}
    newcomers = queued if imagined else []
    with platform_view(session):
        rooms = cluster.rooms(session)
        kinds = _kinds(session, rooms, newcomers, policy)
        places = _places(session, kinds, [job.id for job in queued], newcomers)
        told = _forecast(session, rooms, kinds, places)
    found = {}
    for place in places:
        kind = kinds[place.team_id, place.demand]
        if place.wanted:
            eta = told.get(place.id)
            reason = kind.obstacle
            if reason is None and eta == 0:
                reason = wait_reasons.STARTING
            elif reason is None:
                reason = wait_reasons.slots_taken(kind.demand, rooms, place.id, place.priority)
            found[place.id] = QueueInfo(place.position, reason.code, reason.words, eta)
    return found


@dataclass(frozen=True)
class _Kind:
    """The jobs of one team with one demand."""

    demand: Demand
    team: TeamStanding
    obstacle: Reason | None
    gpu: bool
    """Whether it may take a GPU; and a CPU slot."""
    cpu: bool

    @property
    def share(self) -> float:
        return self.team.gpu_share if self.gpu else self.team.cpu_share


_Kinds = dict[tuple[str, str], _Kind]


def _kinds(session: Session, rooms: list[Room], newcomers: Sequence[Job], policy: Policy) -> _Kinds:
    pairs = {
        (team_id, demand) for team_id, demand in session.execute(text(f"WITH RECURSIVE {CLASSES_SQL} TABLE class"))
    }
    pairs |= {(job.team_id, job.demand) for job in newcomers}
    teams = cluster.teams(session, sorted({team_id for team_id, _ in pairs}), policy)
    kinds = {}
    for team_id, word in sorted(pairs):
        demand, team = Demand.parse(word), teams[team_id]
        possible = [room for room in rooms if room.suits(demand)] or rooms
        takes = {demand.takes(room.gpus) for room in possible} or {demand.gpus or 0}
        kinds[team_id, word] = _Kind(
            demand,
            team,
            wait_reasons.standing_obstacle(demand, rooms, team),
            # Without workers nobody knows what an auto job will take.
            gpu=max(takes) > 0 or (demand.gpus is None and not rooms),
            cpu=min(takes) == 0,
        )
    return kinds


class _Place(NamedTuple):
    id: str
    team_id: str
    demand: str
    priority: int
    position: int
    wanted: bool
    open: bool


# `line` is the queue in the order of the claim, with how many stand before each. Only jobs that something could start
# count for others; behind the obstacle of their kind, jobs stand in line among themselves.
_LINE = text("""
WITH kind AS (
    SELECT * FROM unnest(
        CAST(:teams AS text[]), CAST(:demands AS text[]), CAST(:shares AS float8[]),
        CAST(:gpu AS bool[]), CAST(:cpu AS bool[]), CAST(:open AS bool[])
    ) AS kind (team_id, demand, share, gpu, cpu, open)
), line AS (
    SELECT job.id, job.priority, kind.*,
           count(*) FILTER (WHERE open) OVER earlier AS open_before,
           count(*) FILTER (WHERE open AND gpu) OVER earlier AS gpu_before,
           count(*) FILTER (WHERE open AND cpu) OVER earlier AS cpu_before,
           row_number() OVER (PARTITION BY team_id, demand ORDER BY priority DESC, queued_at, id) AS among_its_kind
    FROM (
        SELECT id, team_id, demand, priority, queued_at FROM jobs WHERE status = 'queued'
        UNION ALL
        SELECT id, team_id, demand, priority, clock_timestamp() FROM unnest(
            CAST(:new_ids AS text[]), CAST(:new_teams AS text[]), CAST(:new_demands AS text[]),
            CAST(:new_priorities AS int[])
        ) AS newcomer (id, team_id, demand, priority)
    ) AS job
    JOIN kind USING (team_id, demand)
    WINDOW earlier AS (
        ORDER BY job.priority DESC, kind.share, job.queued_at, job.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT id, team_id, demand, priority,
       CASE WHEN gpu AND cpu THEN open_before WHEN gpu THEN gpu_before ELSE cpu_before END
           + CASE WHEN open THEN 1 ELSE among_its_kind END AS position,
       id = ANY(:wanted) AS wanted, open
FROM line
WHERE id = ANY(:wanted) OR (open AND open_before < :horizon)
ORDER BY open_before, id
""")


def _places(session: Session, kinds: _Kinds, wanted: Sequence[str], newcomers: Sequence[Job]) -> list[_Place]:
    """The wanted jobs, and those at the head of the line, in its order."""
    keys = list(kinds)
    rows = session.execute(
        _LINE,
        {
            "teams": [team_id for team_id, _ in keys],
            "demands": [demand for _, demand in keys],
            "shares": [kinds[key].share for key in keys],
            "gpu": [kinds[key].gpu for key in keys],
            "cpu": [kinds[key].cpu for key in keys],
            "open": [kinds[key].obstacle is None for key in keys],
            "new_ids": [job.id for job in newcomers],
            "new_teams": [job.team_id for job in newcomers],
            "new_demands": [job.demand for job in newcomers],
            "new_priorities": [job.priority for job in newcomers],
            "wanted": list(wanted),
            "horizon": _HORIZON,
        },
    )
    return [_Place(*row) for row in rows]


_LENGTHS = text("""
SELECT id, team_id, model, greatest(steps - step, 0), seconds_per_step, max_runtime - used_seconds
FROM jobs WHERE id = ANY(:ids)
""")


def _forecast(session: Session, rooms: list[Room], kinds: _Kinds, places: list[_Place]) -> dict[str, float]:
    line = [place for place in places if place.open]
    lengths: dict[str, Any] = {}
    rows = session.execute(_LENGTHS, {"ids": [place.id for place in line]}).all()
    past = cluster.paces(session, {(team_id, model) for _, team_id, model, _, pace, _ in rows if pace is None})
    for id, team_id, model, steps, pace, left in rows:
        lengths[id] = cluster.length(steps, past.get((team_id, model)) if pace is None else pace, left)
    waiting = [
        Waiting(
            place.id, place.team_id, kinds[place.team_id, place.demand].demand, place.priority, lengths.get(place.id)
        )
        for place in line[:_HORIZON]
    ]
    reached = {each.id for each in waiting}
    wanted = {place.id for place in line if place.wanted} & reached
    return forecast(rooms, {kind.team.id: kind.team for kind in kinds.values()}, waiting, wanted)
