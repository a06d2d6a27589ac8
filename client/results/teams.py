"""Teams, members, keys, and who one is."""

from typing import Literal, NotRequired, TypedDict


class Member(TypedDict):
    id: str
    name: str
    role: Literal["viewer", "member", "admin"]
    login: str | None
    """Under which name the member signs in at the identity provider; None: by keys only."""
    created_at: str


class AuditEntry(TypedDict):
    id: int
    at: str
    key_id: str | None
    member_id: str | None
    address: str
    action: str
    object: str
    status: int
    reason: str | None


class TeamLimits(TypedDict):
    """None is as much as there is."""

    running_gpus: int | None
    queued_jobs: int | None
    gpu_hours: int | None
    disk_bytes: int | None


class TeamUse(TypedDict):
    running_gpus: int
    queued_jobs: int
    gpu_hours: float
    disk_bytes: int
    recent_gpu_seconds: float
    recent_cpu_seconds: float


class Me(TypedDict):
    key_id: str
    key_name: str
    team_id: str
    team_name: str
    role: Literal["viewer", "member", "admin"]
    member_id: str
    scopes: list[str]
    expires_at: str | None
    limits: TeamLimits
    used: TeamUse


class TeamOfMine(TypedDict):
    id: str
    name: str
    role: Literal["viewer", "member", "admin"]


class SignedIn(TypedDict):
    teams: list[TeamOfMine]
    """All that one belongs to."""
    key: "Key | None"
    """None when there are several teams and none was chosen."""


class Key(TypedDict):
    id: str
    name: str
    prefix: str
    member_id: str
    role: Literal["viewer", "member", "admin"]
    scopes: list[str] | None
    """What it was narrowed to; None: all that its role may do."""
    created_at: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None
    rotated_from: str | None
    key: NotRequired[str]
    """The key itself, only in the answer that made it."""
