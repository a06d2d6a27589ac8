"""The rules of the queue, set by the operator: what a team may use, how fast use is forgotten, when GPUs are kept free.

`Settings.policy` gives those of a platform; a team's own limits, in the columns of `teams`, go before its defaults.
"""

from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

UNLIMITED = -1
"""In a column of `teams`: no limit for this team, whatever the platform's default is. NULL is the default."""


class TeamColumns(Protocol):
    """A row of `teams`."""

    @property
    def max_running_gpus(self) -> int | None: ...
    @property
    def max_queued_jobs(self) -> int | None: ...
    @property
    def max_gpu_hours(self) -> int | None: ...
    @property
    def max_disk_bytes(self) -> int | None: ...


@dataclass(frozen=True)
class Limits:
    """What one team may use; None: as much as there is."""

    running_gpus: int | None = None
    """GPUs of its running jobs together."""
    queued_jobs: int | None = None
    gpu_hours: int | None = None
    """In a calendar month (UTC)."""
    disk_bytes: int | None = None
    """Data sets and checkpoints."""

    def of_team(self, team: TeamColumns) -> Self:
        """These as defaults, with the team's own in their place."""
        own = {field.name: getattr(team, f"max_{field.name}") for field in fields(self)}
        return replace(
            self,
            **{name: None if value == UNLIMITED else value for name, value in own.items() if value is not None},
        )


@dataclass(frozen=True)
class Policy:
    limits: Limits = Limits()
    """Of a team that has none of its own."""
    half_life_seconds: float = 86_400.0
    """After so long, GPU-seconds that were used count half in the fair share."""
    reserve_after_seconds: float = 120.0
    """How long a job of several GPUs waits before a worker is kept free for it."""
    head_start_seconds: float = 60.0
    """A running job's GPUs count as used for so long from its first moment, lest one team take all that is free."""


DEFAULT = Policy()
