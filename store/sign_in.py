"""Signing in under a name that an identity provider vouches for: which members it names, and a key for one of them.

Whether the provider really said so is the API's business (api.sign_in); here its word is taken.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from store import keys
from store.access import Role
from store.members import normalized
from store.models import Key
from store.secret import ServerSecret

KEY_NAME = "signed in"

# The function is store.tenancy's: it sees members of all teams, which the API's own role does not.
_MEMBERSHIPS = text("SELECT * FROM asym_memberships(:login)")


@dataclass(frozen=True)
class Membership:
    """One of the teams that somebody belongs to, and as what."""

    team_id: str
    team_name: str
    member_id: str
    role: Role


def memberships(session: Session, login: str) -> list[Membership]:
    """The teams in which a member signs in under this name, by their names; removed members are none."""
    rows = session.execute(_MEMBERSHIPS, {"login": normalized(login)})
    return [Membership(row.team_id, row.team_name, row.member_id, Role(row.member_role)) for row in rows]


def make_key(session: Session, membership: Membership, lasting: timedelta, secret: ServerSecret) -> tuple[Key, str]:
    """A key of the member's, with all that its role may do, and its plain text. In a transaction of the team's."""
    now = session.scalars(select(func.clock_timestamp())).one()
    return keys.create(
        session,
        membership.team_id,
        KEY_NAME,
        membership.role,
        member_id=membership.member_id,
        expires_at=now + lasting,
        secret=secret,
    )
