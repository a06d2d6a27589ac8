"""Where a queued job stands: its place in line, why it waits, and for about how long.

The order is the one in which store.leases.claim takes jobs, as things are now: with the fair share, every job that runs
changes it a little. What nobody can run now is not counted before others.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from store import cluster, wait_reasons
from store.cluster import Room, TeamStanding
from store.demand import Demand
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
    wanted = [
        _Wanted(job.id, job.team_id, job.demand, job.priority, None if imagined else job.queued_at)
        for job in jobs
        if job.status is JobStatus.QUEUED
    ]
    if not wanted:
        return {}
    with platform_view(session):
        rooms = cluster.rooms(session)
        line = _Line(session, rooms, wanted, policy)
        places = line.places()
        told = _forecast(session, rooms, line, places)
    found = {}
    for place in places:
        kind = line.kinds[place.job.kind]
        eta = told.get(place.job.id)
        reason = kind.obstacle
        if reason is None and eta == 0:
            reason = wait_reasons.STARTING
        elif reason is None:
            reason = wait_reasons.slots_taken(kind.demand, rooms, place.job.id, place.job.priority)
        found[place.job.id] = QueueInfo(place.position, reason.code, reason.words, eta)
    return found


_KindKey = tuple[str, str]
"""(team, demand)"""


class _Wanted(NamedTuple):
    """A job whose place is asked for."""

    id: str
    team_id: str
    demand: str
    priority: int
    queued_at: datetime | None
    """None: it comes last of those with its priority and share."""

    @property
    def kind(self) -> _KindKey:
        return self.team_id, self.demand


class _Place(NamedTuple):
    job: _Wanted
    position: int
    before: int | None
    """How many that something could start stand before it, whatever they take; None when nothing could start it."""


@dataclass(frozen=True)
class _Kind:
    """The jobs of one team with one demand."""

    demand: Demand
    team: TeamStanding
    obstacle: Reason | None
    gpu: bool
    """Whether it may take a GPU; and a CPU slot."""
    cpu: bool
    counts: dict[int, int]
    """How many wait, by priority."""

    @property
    def open(self) -> bool:
        """Whether something could start such a job."""
        return self.obstacle is None

    @property
    def share(self) -> float:
        return self.team.gpu_share if self.gpu else self.team.cpu_share

    def rivals(self, other: "_Kind") -> bool:
        """Whether the other may take slots that this one waits for."""
        return (self.gpu and self.cpu) or (other.gpu if self.gpu else other.cpu)


_COUNTS = text("SELECT team_id, demand, priority, count(*) FROM jobs WHERE status = 'queued' GROUP BY 1, 2, 3")

# Read off ix_jobs_claim. What stands before a job within its own priority and share is all that has to be counted one
# by one; the rest are sums of _COUNTS.
_EARLIER = text("""
SELECT CASE WHEN own THEN EXISTS (SELECT FROM jobs WHERE id = asked.id AND status = 'queued') END AS there, (
    SELECT count(*) FROM jobs
    WHERE team_id = asked.team_id AND demand = asked.demand AND priority = asked.priority AND status = 'queued'
      AND (queued_at, id) < (coalesce(asked.queued_at, 'infinity'), asked.id)
) AS earlier
FROM unnest(
    CAST(:ids AS text[]), CAST(:teams AS text[]), CAST(:demands AS text[]), CAST(:priorities AS int[]),
    CAST(:moments AS timestamptz[]), CAST(:own AS bool[])
) WITH ORDINALITY AS asked (id, team_id, demand, priority, queued_at, own, number)
ORDER BY number
""")


class _Line:
    """The queue in the order of the claim, as sums over its kinds: nothing here grows with the number of jobs but two
    counts off an index.

    Only jobs that something could start count for others; behind the obstacle of their kind, jobs stand in line among
    themselves.
    """

    def __init__(self, session: Session, rooms: list[Room], wanted: Sequence[_Wanted], policy: Policy) -> None:
        self._session = session
        self._wanted = wanted
        self.newcomers = [job for job in wanted if job.queued_at is None]
        counts: dict[_KindKey, dict[int, int]] = {job.kind: {} for job in self.newcomers}
        for team_id, demand, priority, count in session.execute(_COUNTS):
            counts.setdefault((team_id, demand), {})[priority] = count
        teams = cluster.teams(session, sorted({team_id for team_id, _ in counts}), policy)
        self.kinds = {
            (team, word): _kind(teams[team], word, rooms, counts[team, word]) for team, word in sorted(counts)
        }

    def places(self) -> list[_Place]:
        """Of the wanted jobs that are still there."""
        known = [job for job in self._wanted if job.kind in self.kinds]
        # Those among whom each must be counted out, its own kind first.
        peers = [[job.kind, *self._peers(job)] for job in known]
        asked = [(job, kind) for job, kinds in zip(known, peers, strict=True) for kind in kinds]
        rows = iter(
            self._session.execute(
                _EARLIER,
                {
                    "ids": [job.id for job, _ in asked],
                    "teams": [team_id for _, (team_id, _) in asked],
                    "demands": [demand for _, (_, demand) in asked],
                    "priorities": [job.priority for job, _ in asked],
                    "moments": [job.queued_at for job, _ in asked],
                    "own": [kind == job.kind for job, kind in asked],
                },
            )
        )
        found = []
        for job, kinds in zip(known, peers, strict=True):
            there, own = next(rows)
            earlier = {job.kind: own} | {kind: next(rows).earlier for kind in kinds[1:]}
            if there or job.queued_at is None:
                found.append(self._place(job, earlier))
        return found

    def _peers(self, job: _Wanted) -> list[_KindKey]:
        mine = self.kinds[job.kind]
        if not mine.open:
            return []
        return [
            key
            for key, kind in self.kinds.items()
            if key != job.kind and kind.open and kind.share == mine.share and job.priority in kind.counts
        ]

    def _place(self, job: _Wanted, earlier: dict[_KindKey, int]) -> _Place:
        mine = self.kinds[job.kind]
        if not mine.open:
            return _Place(job, 1 + _above(mine, job.priority) + earlier[job.kind], None)
        position, before = 1, 0
        for key, kind in self.kinds.items():
            if kind.open:
                ahead = _above(kind, job.priority) + earlier.get(key, 0)
                if kind.share < mine.share:
                    ahead += kind.counts.get(job.priority, 0)
                before += ahead
                position += ahead * mine.rivals(kind)
        return _Place(job, position, before)

    def head(self) -> list[tuple[tuple[int, float], _KindKey]]:
        """((-priority, share), kind) of the jobs that could start first, in their order, until they are _HORIZON."""
        tiers: dict[tuple[int, float], list[_KindKey]] = defaultdict(list)
        for key, kind in self.kinds.items():
            for priority in kind.counts if kind.open else ():
                tiers[-priority, kind.share].append(key)
        found: list[tuple[tuple[int, float], _KindKey]] = []
        reached = 0
        for tier in sorted(tiers):
            if reached < _HORIZON:
                found += [(tier, key) for key in tiers[tier]]
                reached += sum(self.kinds[key].counts[-tier[0]] for key in tiers[tier])
        return found


def _above(kind: _Kind, priority: int) -> int:
    return sum(count for each, count in kind.counts.items() if each > priority)


def _kind(team: TeamStanding, word: str, rooms: list[Room], counts: dict[int, int]) -> _Kind:
    demand = Demand.parse(word)
    possible = [room for room in rooms if room.suits(demand)] or rooms
    takes = {demand.takes(room.gpus) for room in possible} or {demand.gpus or 0}
    return _Kind(
        demand,
        team,
        wait_reasons.standing_obstacle(demand, rooms, team),
        # Without workers nobody knows what an auto job will take.
        gpu=max(takes) > 0 or (demand.gpus is None and not rooms),
        cpu=min(takes) == 0,
        counts=counts,
    )


_HEAD = text("""
SELECT head.*, job.model, greatest(job.steps - job.step, 0) AS left_steps, job.seconds_per_step,
       job.max_runtime - job.used_seconds AS seconds_left
FROM (
    SELECT first.id, first.queued_at, kind.*
    FROM unnest(
        CAST(:tiers AS int[]), CAST(:teams AS text[]), CAST(:demands AS text[]), CAST(:priorities AS int[])
    ) AS kind (tier, team_id, demand, priority)
    CROSS JOIN LATERAL (
        SELECT id, queued_at FROM jobs
        WHERE team_id = kind.team_id AND demand = kind.demand AND priority = kind.priority AND status = 'queued'
        ORDER BY queued_at, id LIMIT :horizon
    ) AS first
    ORDER BY kind.tier, first.queued_at, first.id LIMIT :horizon
) AS head
JOIN jobs AS job USING (id)
ORDER BY head.tier, head.queued_at, head.id
""")


def _forecast(session: Session, rooms: list[Room], line: _Line, places: list[_Place]) -> dict[str, float]:
    """When each of them starts, as far as it can be told."""
    wanted = {place.job.id for place in places if place.before is not None and place.before < _HORIZON}
    if not wanted:
        return {}
    head = line.head()
    order = {tier: number for number, tier in enumerate(sorted({tier for tier, _ in head}))}
    rows = session.execute(
        _HEAD,
        {
            "tiers": [order[tier] for tier, _ in head],
            "teams": [team_id for _, (team_id, _) in head],
            "demands": [demand for _, (_, demand) in head],
            "priorities": [-tier[0] for tier, _ in head],
            "horizon": _HORIZON,
        },
    ).all()
    unpaced = {(row.team_id, row.model) for row in rows if row.seconds_per_step is None}
    past = cluster.paces(session, unpaced)
    waiting = []
    for row in rows:
        pace = past.get((row.team_id, row.model)) if row.seconds_per_step is None else row.seconds_per_step
        seconds = cluster.length(row.left_steps, pace, row.seconds_left)
        kind = line.kinds[row.team_id, row.demand]
        waiting.append((-row.priority, kind.share, Waiting(row.id, row.team_id, kind.demand, row.priority, seconds)))
    for job in line.newcomers:
        kind = line.kinds[job.kind]
        if kind.open:
            waiting.append((-job.priority, kind.share, Waiting(job.id, job.team_id, kind.demand, job.priority, None)))
    # Sorting keeps the order of equals: whoever is new comes last among them.
    first = [each for _, _, each in sorted(waiting, key=lambda place: place[:2])[:_HORIZON]]
    teams = {kind.team.id: kind.team for kind in line.kinds.values()}
    return forecast(rooms, teams, first, wanted & {each.id for each in first})
