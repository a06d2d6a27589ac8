"""Who asks, and what is theirs: the one place where rows are filtered by team and roles are checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from store.errors import Forbidden, NotFound
from store.models import Dataset, Job, Key


class Role(StrEnum):
    """Viewers read; members also create and stop; admins also manage keys."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


@dataclass(frozen=True)
class Identity:
    """An authenticated key."""

    key_id: str
    team_id: str
    role: Role


_KINDS = {Dataset: "data set", Job: "job", Key: "key"}

Owned = Dataset | Job | Key
T = TypeVar("T", Dataset, Job, Key)


def of_team(identity: Identity, entity: type[Owned]) -> ColumnElement[bool]:
    """The condition under which a row is the caller's team's. Every tenant-facing query has it from here.

    Deleted jobs are nobody's. (Data sets and keys that are gone stay readable to the jobs that were made with them.)
    """
    theirs = entity.team_id == identity.team_id
    return theirs & entity.deleted_at.is_(None) if entity is Job else theirs


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


def require_member(identity: Identity) -> None:
    """Forbidden for a viewer."""
    if identity.role is Role.VIEWER:
        raise Forbidden("this key may only read (role viewer)")


def require_admin(identity: Identity) -> None:
    """Forbidden for anyone but an admin."""
    if identity.role is not Role.ADMIN:
        raise Forbidden(f"this needs an admin key; this one has role {identity.role}")
