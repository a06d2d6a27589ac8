"""When the queued jobs will start, from how long those that run and those that wait are known to take.

The queue is played through: at every end of a job, the waiting ones are given what is free, in the order of the claim.
Pure; nothing here asks the database.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from store.cluster import Room, TeamStanding
from store.demand import Demand


@dataclass(frozen=True)
class Waiting:
    """A queued job that could begin if there were room."""

    id: str
    team_id: str
    demand: Demand
    priority: int
    seconds: float | None
    """How long it will hold its slots; None when nothing is known to tell it from."""


def forecast(
    rooms: Iterable[Room], teams: dict[str, TeamStanding], line: Iterable[Waiting], wanted: Collection[str]
) -> dict[str, float]:
    """Seconds until each of the `wanted` ids starts; one whose start cannot be told is left out.

    line: in the order in which they are claimed.
    """
    play = _Play(list(rooms), teams, line)
    missing = set(wanted)
    told: dict[str, float] = {}
    while missing:
        for job_id in play.start_what_fits():
            if job_id in missing:
                told[job_id] = play.now
                missing.discard(job_id)
        if not play.go_to_next_end():
            break
    return told


class _Play:
    def __init__(self, rooms: list[Room], teams: dict[str, TeamStanding], line: Iterable[Waiting]) -> None:
        self.now = 0.0
        self._rooms = rooms
        self._gpus = [room.free_gpus for room in rooms]
        self._cpu_slots = [room.free_cpu_slots for room in rooms]
        self._kept = [room.kept for room in rooms]
        self._teams = teams
        self._team_gpus = {team.id: team.running_gpus for team in teams.values()}
        self._ends: list[tuple[float, int, int, str]] = []
        """(when, room, GPUs or 0 for a CPU slot, team)"""
        for index, room in enumerate(rooms):
            for each in room.running:
                if each.seconds is not None:
                    heapq.heappush(self._ends, (each.seconds, index, each.gpus, each.team_id))
        # By what they ask for: when the first of a kind does not fit, those behind it do not either.
        self._classes: dict[tuple[str, Demand], deque[tuple[int, Waiting]]] = defaultdict(deque)
        for rank, job in enumerate(line):
            self._classes[job.team_id, job.demand].append((rank, job))

    def start_what_fits(self) -> list[str]:
        """Give what is free to the jobs that it fits, best first; their ids."""
        started: list[str] = []
        stuck: set[tuple[str, Demand]] = set()
        while True:
            heads = [(jobs[0][0], key) for key, jobs in self._classes.items() if jobs and key not in stuck]
            if not heads:
                return started
            _, key = min(heads, key=lambda head: head[0])
            job = self._classes[key][0][1]
            room = self._room_for(job)
            if room is None:
                stuck.add(key)
            else:
                self._classes[key].popleft()
                self._start(job, room)
                started.append(job.id)

    def go_to_next_end(self) -> bool:
        """False when nothing more is known to end."""
        if not self._ends:
            return False
        self.now = self._ends[0][0]
        while self._ends and self._ends[0][0] <= self.now:
            _, index, gpus, team_id = heapq.heappop(self._ends)
            self._change(index, gpus, team_id, +1)
        return True

    def _room_for(self, job: Waiting) -> int | None:
        for index, room in enumerate(self._rooms):
            takes = job.demand.takes(room.gpus)
            kept = self._kept[index]
            if takes and kept is not None and job.id != kept.job_id and job.priority <= kept.priority:
                continue
            if takes and not self._team_may_take(job.team_id, takes):
                continue
            if room.suits(job.demand) and room.has_room(job.demand, self._gpus[index], self._cpu_slots[index]):
                return index
        return None

    def _team_may_take(self, team_id: str, gpus: int) -> bool:
        team = self._teams[team_id]
        if team.hours_used_up:
            return False
        return team.max_running_gpus is None or self._team_gpus[team_id] + gpus <= team.max_running_gpus

    def _start(self, job: Waiting, index: int) -> None:
        gpus = job.demand.takes(self._rooms[index].gpus)
        self._change(index, gpus, job.team_id, -1)
        self._kept = [None if kept is not None and kept.job_id == job.id else kept for kept in self._kept]
        if job.seconds is not None:
            heapq.heappush(self._ends, (self.now + job.seconds, index, gpus, job.team_id))

    def _change(self, index: int, gpus: int, team_id: str, ended: int) -> None:
        """`ended`: +1 for a job that has ended, -1 for one that begins."""
        self._gpus[index] += ended * gpus
        self._cpu_slots[index] += ended * (gpus == 0)
        self._team_gpus[team_id] = self._team_gpus.get(team_id, 0) - ended * gpus
