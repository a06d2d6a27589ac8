"""/keys and /me: who may call, and who is calling."""

from datetime import datetime, timedelta
from typing import Annotated, Self

from fastapi import APIRouter, Body, Response
from pydantic import AwareDatetime, BaseModel, Field

from api.auth import Admin, Caller
from api.openapi import example, problems
from api.paging import After, Limit, Page, page
from api.request_text import Name
from api.state import State
from store import keys, usage
from store.access import Role, Scope, find
from store.models import Key, Team

router = APIRouter(tags=["keys"], responses=problems())

KEY_EXAMPLE = {
    "id": "key_01jz8xq9w8e7r6t5y4u3i2o1pa",
    "name": "ci",
    "prefix": "asym_7k2m9x",
    "member_id": "member_01jz8xq9w8e7r6t5y4u3i2o1pb",
    "role": "member",
    "scopes": ["jobs:write", "read"],
    "created_at": "2026-01-15T09:00:00Z",
    "last_used_at": None,
    "expires_at": "2026-07-15T09:00:00Z",
    "revoked_at": None,
    "rotated_from": None,
}


class KeyIn(BaseModel):
    model_config = example({"name": "ci", "role": "member"}, extra="forbid")

    name: Name
    role: Role = Role.MEMBER
    """At most the member's; the key does less when the member's role is lowered."""
    member_id: str | None = None
    """Whose key it is; without it, the caller's own."""
    scopes: Annotated[set[Scope], Field(min_length=1)] | None = None
    """What it may do of what its role may; without them, all of it."""
    expires_at: AwareDatetime | None = None


class KeyOut(BaseModel):
    """A key, without the key itself."""

    model_config = example(KEY_EXAMPLE)

    id: str
    name: str
    prefix: str
    """The key's first characters."""
    member_id: str
    role: Role
    scopes: list[Scope] | None
    """What it was narrowed to; null: all that its role may do."""
    created_at: datetime
    last_used_at: datetime | None
    """To the minute."""
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_from: str | None
    """The key that this one takes the place of."""

    @classmethod
    def of(cls, key: Key) -> Self:
        return cls.model_validate(key, from_attributes=True)


class NewKey(KeyOut):
    model_config = example({**KEY_EXAMPLE, "key": "asym_7k2m9x..."})

    key: str
    """The key itself. It is stored hashed and never shown again."""


class Rotation(BaseModel):
    model_config = example({"grace_seconds": 3600}, extra="forbid")

    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=int(keys.LONGEST_GRACE.total_seconds()))] = 0
    """For how long the old key goes on working; 0: not at all."""


RotationBody = Annotated[
    Rotation | None, Body(openapi_examples={"an hour to change over": {"value": {"grace_seconds": 3600}}})
]


class TeamLimits(BaseModel):
    """What the team may use; null is as much as there is. The operator sets it (`asym teams limits`)."""

    running_gpus: int | None
    """At once."""
    queued_jobs: int | None
    gpu_hours: int | None
    """A calendar month (UTC)."""
    disk_bytes: int | None
    """Data sets and checkpoints."""


class TeamUse(BaseModel):
    """What the team uses now, and has used this month."""

    running_gpus: int
    queued_jobs: int
    gpu_hours: float
    """This month."""
    disk_bytes: int
    recent_gpu_seconds: float
    """What counts in the fair share: older use counts less."""
    recent_cpu_seconds: float


class Me(BaseModel):
    """The key in use."""

    model_config = example(
        {
            "key_id": KEY_EXAMPLE["id"],
            "key_name": "ci",
            "team_id": "team_01jz8xm...",
            "team_name": "reasoning",
            "role": "member",
            "member_id": KEY_EXAMPLE["member_id"],
            "scopes": ["jobs:write", "read"],
            "expires_at": None,
            "limits": {"running_gpus": 8, "queued_jobs": None, "gpu_hours": 2000, "disk_bytes": 10**12},
            "used": {
                "running_gpus": 4,
                "queued_jobs": 2,
                "gpu_hours": 310.5,
                "disk_bytes": 52 * 10**9,
                "recent_gpu_seconds": 81_000.0,
                "recent_cpu_seconds": 0.0,
            },
        }
    )

    key_id: str
    key_name: str
    team_id: str
    team_name: str
    role: Role
    member_id: str
    scopes: list[Scope]
    """What the key may do."""
    expires_at: datetime | None
    limits: TeamLimits
    used: TeamUse


@router.post("/keys", status_code=201, responses=problems(403, 404))
def create_key(wanted: KeyIn, state: State, admin: Admin, response: Response) -> NewKey:
    """Make a key for a member of the caller's team. The answer is the only place where it is shown."""
    with state.database.transaction() as session:
        key, plain = keys.create_for(
            session,
            admin,
            wanted.name,
            wanted.role,
            member_id=wanted.member_id,
            scopes=wanted.scopes,
            expires_at=wanted.expires_at,
            secret=state.secret,
        )
    response.headers["Location"] = f"/keys/{key.id}"
    return NewKey(**KeyOut.of(key).model_dump(), key=plain)


@router.post("/keys/{key_id}/rotate", status_code=201, responses=problems(403, 404, 409))
def rotate_key(key_id: str, state: State, admin: Admin, response: Response, rotation: RotationBody = None) -> NewKey:
    """A new key in the place of one, alike in all but its text. The old one ends at once, or after a grace.

    A key with an end gets as much time again.
    """
    grace = timedelta(seconds=0 if rotation is None else rotation.grace_seconds)
    with state.database.transaction() as session:
        key, plain = keys.rotate(session, admin, key_id, grace=grace, secret=state.secret)
    response.headers["Location"] = f"/keys/{key.id}"
    return NewKey(**KeyOut.of(key).model_dump(), key=plain)


@router.get("/keys", responses=problems(403))
def list_keys(state: State, admin: Admin, limit: Limit = 50, after: After = None) -> Page[KeyOut]:
    """The team's keys, newest first, revoked ones included."""
    with state.database.transaction() as session:
        rows = keys.list_page(session, admin, limit + 1, after)
    return page(rows, limit, KeyOut.of, lambda key: key.id)


@router.delete("/keys/{key_id}", status_code=204, responses=problems(403, 404))
def revoke_key(key_id: str, state: State, admin: Admin) -> None:
    """End a key: it is refused from now on."""
    with state.database.transaction() as session:
        keys.revoke(session, admin, key_id)


@router.get("/me")
def get_me(state: State, caller: Caller) -> Me:
    """Whose key this is, and what its team may use and uses."""
    with state.database.transaction() as session:
        key = find(session, caller, Key, caller.key_id)
        team = session.get_one(Team, key.team_id)
        limits = usage.limits_of(session, team.id, state.policy)
        used = usage.used(session, team.id, state.policy)
    return Me(
        key_id=key.id,
        key_name=key.name,
        team_id=team.id,
        team_name=team.name,
        role=caller.role,
        member_id=key.member_id,
        scopes=sorted(scope for scope in Scope if caller.may(scope)),
        expires_at=key.expires_at,
        limits=TeamLimits.model_validate(limits, from_attributes=True),
        used=TeamUse.model_validate(used, from_attributes=True),
    )
