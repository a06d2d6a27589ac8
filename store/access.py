"""Who asks, and what is theirs: the one place where rows are filtered by team, and roles and scopes are checked.

The database holds the same line between teams a second time (store.tenancy).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from store.errors import Forbidden, NotFound
from store.models import AuditEntry, Dataset, Job, Key, Member, Sweep, Webhook


class Role(StrEnum):
    """Viewers read; members also create and stop; admins also manage keys and members. In growing order."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


class Scope(StrEnum):
    """One thing that a key may do. A key has those of its role, or some of them."""

    READ = "read"
    JOBS_WRITE = "jobs:write"
    DATASETS_WRITE = "datasets:write"
    KEYS_MANAGE = "keys:manage"
    MEMBERS_MANAGE = "members:manage"
    AUDIT_READ = "audit:read"
    WEBHOOKS_MANAGE = "webhooks:manage"


_OF_MEMBERS = frozenset({Scope.READ, Scope.JOBS_WRITE, Scope.DATASETS_WRITE})
SCOPES: dict[Role, frozenset[Scope]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.MEMBER: _OF_MEMBERS,
    Role.ADMIN: frozenset(Scope),
}


def lesser(one: Role, other: Role) -> Role:
    """The role that may do less."""
    return min(one, other, key=list(Role).index)


@dataclass(frozen=True)
class Identity:
    """An authenticated key."""

    key_id: str
    team_id: str
    role: Role
    """The key's, or its member's where that is less."""
    member_id: str | None = None
    scopes: frozenset[Scope] | None = None
    """What the key was narrowed to; None: all that its role may do."""

    def may(self, scope: Scope) -> bool:
        return scope in SCOPES[self.role] and (self.scopes is None or scope in self.scopes)


_KINDS = {
    AuditEntry: "audit entry",
    Dataset: "data set",
    Job: "job",
    Key: "key",
    Member: "member",
    Sweep: "sweep",
    Webhook: "webhook",
}

Owned = AuditEntry | Dataset | Job | Key | Member | Sweep | Webhook
T = TypeVar("T", AuditEntry, Dataset, Job, Key, Member, Sweep, Webhook)


def of_team(identity: Identity, entity: type[Owned]) -> ColumnElement[bool]:
    """The condition under which a row is the caller's team's. Every tenant-facing query has it from here.

    Deleted jobs and webhooks are nobody's. (Data sets and keys that are gone stay readable to the jobs that were made
    with them.)
    """
    theirs = entity.team_id == identity.team_id
    return theirs & entity.deleted_at.is_(None) if entity in (Job, Webhook) else theirs


def find(
    session: Session,
    identity: Identity,
    entity: type[T],
    id: str,
    *,
    lock: bool = False,
    options: Sequence[ORMOption] = (),
) -> T:
    """The caller's team's object of this id; with `lock`, for update. NotFound when there is none."""
    if not id.isascii() or "\0" in id:  # no id of ours, and Postgres would refuse to look for it
        raise NotFound(_KINDS[entity], id)
    statement = select(entity).where(entity.id == id, of_team(identity, entity)).options(*options)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    row: T | None = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound(_KINDS[entity], id)
    return row


def require(identity: Identity, scope: Scope) -> None:
    """Forbidden for a key whose role, or whose scopes, do not allow this."""
    if identity.may(scope):
        return
    if scope in SCOPES[identity.role]:
        held = ", ".join(sorted(identity.scopes or ())) or "none"
        raise Forbidden(f"this key lacks the scope {scope} (it has: {held})")
    if scope in _OF_MEMBERS:
        raise Forbidden("this key may only read (role viewer)")
    raise Forbidden(f"this needs an admin key; this one has role {identity.role}")


def require_member(identity: Identity) -> None:
    """Forbidden for a viewer, whatever is to be written; `require` tells writes apart."""
    if identity.role is Role.VIEWER:
        raise Forbidden("this key may only read (role viewer)")


def require_admin(identity: Identity) -> None:
    """Forbidden for anyone but an admin; `require` tells apart what admins do."""
    if identity.role is not Role.ADMIN:
        raise Forbidden(f"this needs an admin key; this one has role {identity.role}")
