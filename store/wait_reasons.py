"""Why a queued job does not run yet, in words, with a code for programs. Pure."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from store.cluster import Room, TeamStanding
from store.demand import Demand

Code = Literal[
    "starting", "slots_taken", "reserved", "no_worker", "no_worker_with_labels", "no_worker_with_gpus",
    "no_worker_with_gpu_memory", "no_cpu_slots", "above_team_limit", "team_gpu_limit", "team_gpu_hours",
]  # fmt: skip
"""starting: it is next and there is room. slots_taken: it waits for running jobs, and for those before it, to end.
reserved: what is free is kept for a job of several GPUs. no_...: no connected worker has what it asks for.
above_team_limit: it asks for more GPUs than its team may use at once. team_gpu_limit, team_gpu_hours: the team's limit
is reached."""


class Reason(NamedTuple):
    code: Code
    words: str


def standing_obstacle(demand: Demand, rooms: Sequence[Room], team: TeamStanding) -> Reason | None:
    """What keeps every job of this team and demand waiting, however short the line is; None when nothing does."""
    return _of_the_workers(demand, rooms) or _of_the_team(demand, rooms, team)


def slots_taken(demand: Demand, rooms: Sequence[Room], job_id: str, priority: int) -> Reason:
    """For a job that waits for its turn and for room."""
    possible = [room for room in rooms if room.suits(demand)]
    mine = next((room for room in possible if room.kept is not None and room.kept.job_id == job_id), None)
    if mine is not None:
        return Reason("slots_taken", f"worker {mine.name} is kept free for it and gets free as its jobs end")
    gpus = min(demand.takes(room.gpus) for room in possible)
    if gpus == 0:
        return Reason("slots_taken", "all CPU slots are taken")
    open_rooms = [room for room in possible if not room.is_kept_from(job_id, priority)]
    kept = next((room.kept for room in possible if room.is_kept_from(job_id, priority)), None)
    if kept is not None and not any(room.has_room(demand, room.free_gpus, 0) for room in open_rooms):
        return Reason("reserved", f"the next free GPUs are kept for a job of {kept.gpus} GPUs that waits longer")
    if any(room.has_room(demand, room.free_gpus, 0) for room in open_rooms):
        return Reason("slots_taken", "the free GPUs go to jobs before it")
    if gpus > 1:
        most = max((room.free_gpus for room in possible), default=0)
        return Reason("slots_taken", f"no worker has {gpus} GPUs free at once; the most is {most}")
    return Reason("slots_taken", "all GPUs that it could use are taken")


STARTING = Reason("starting", "about to start")


def _of_the_workers(demand: Demand, rooms: Sequence[Room]) -> Reason | None:
    if not rooms:
        return Reason("no_worker", "no worker is connected")
    labelled = [room for room in rooms if set(demand.labels) <= room.labels]
    if not labelled:
        plural = "s" * (len(demand.labels) > 1)
        return Reason("no_worker_with_labels", f"no worker with the label{plural} {', '.join(demand.labels)}")
    those = f" with {', '.join(demand.labels)}" if demand.labels else ""
    if not any(room.suits(demand) for room in labelled):
        if not demand.gpus:
            return Reason("no_cpu_slots", f"no worker{those} takes jobs without a GPU")
        most = max(room.gpus for room in labelled)
        if most < demand.gpus:
            has = "none has a GPU" if most == 0 else f"the largest has {most}"
            gpus = "a GPU" if demand.gpus == 1 else f"{demand.gpus} GPUs"
            return Reason("no_worker_with_gpus", f"no worker{those} with {gpus}; {has}")
        gpus = "" if demand.gpus == 1 else f"{demand.gpus} GPUs of "
        return Reason("no_worker_with_gpu_memory", f"no worker{those} with {gpus}{demand.gpu_memory} GB")
    return None


def _of_the_team(demand: Demand, rooms: Sequence[Room], team: TeamStanding) -> Reason | None:
    gpus = min(demand.takes(room.gpus) for room in rooms if room.suits(demand))
    if gpus == 0 or team.may_take(gpus):
        return None
    if team.hours_used_up and team.max_gpu_seconds is not None:
        hours = team.max_gpu_seconds / 3600
        return Reason(
            "team_gpu_hours", f"team limit of {hours:g} GPU-hours a month reached; it begins anew with the next month"
        )
    limit = team.max_running_gpus or 0
    if gpus > limit:
        return Reason("above_team_limit", f"it needs {gpus} GPUs and the team limit is {limit}")
    need = "" if gpus == 1 else f": {team.running_gpus} in use, it needs {gpus}"
    return Reason("team_gpu_limit", f"team limit {limit} GPU{'s' * (limit != 1)} reached{need}")
