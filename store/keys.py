"""Teams and their API keys. A key is shown once, when it is made; the database keeps a keyed hash of it.

Nothing here is cached: whether a key is live is read with every request, so that an end is an end at once.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import exists, func, select, text
from sqlalchemy.orm import Session

from store import members
from store.access import SCOPES, Identity, Role, Scope, find, lesser, of_team, require
from store.errors import Conflict, Forbidden, Invalid
from store.ids import new_id
from store.key_format import SHOWN, is_well_formed, new_key
from store.models import Key, Member, Team
from store.secret import ServerSecret

LONGEST_GRACE = timedelta(days=7)
"""For how long a rotated key may go on working."""

_PURPOSE = "api key"


@dataclass(frozen=True)
class Refused:
    """Why a key opens nothing. A key that was once good is told by its ids; of an unknown one there are none."""

    reason: Literal["malformed", "unknown", "revoked", "expired", "removed"]
    key_id: str | None = None
    team_id: str | None = None
    member_id: str | None = None


def create_team(session: Session, name: str) -> Team:
    """A new team. sqlalchemy.exc.IntegrityError when the name is taken."""
    team = Team(id=new_id("team"), name=name)
    session.add(team)
    session.flush()
    return team


def create(
    session: Session,
    team_id: str,
    name: str,
    role: Role,
    *,
    member_id: str | None = None,
    scopes: Collection[Scope] | None = None,
    expires_at: datetime | None = None,
    secret: ServerSecret | None = None,
    rotated_from: str | None = None,
) -> tuple[Key, str]:
    """A new key and its plain text, which nothing can show again.

    member_id: whose it is; without it, that of a new member of this name and role. secret: without it the hash is a
    plain one, until the first use of the key replaces it.
    """
    if member_id is None:
        member_id = members.create(session, team_id, name, role).id
    plain = new_key()
    key = Key(
        id=new_id("key"),
        team_id=team_id,
        member_id=member_id,
        name=name,
        prefix=plain[:SHOWN],
        hash=_plain_hash(plain) if secret is None else secret.hmac(_PURPOSE, plain),
        secret_id=None if secret is None else secret.id,
        role=role.value,
        scopes=None if scopes is None else sorted(scopes),
        expires_at=expires_at,
        rotated_from=rotated_from,
    )
    session.add(key)
    session.flush()
    return key, plain


def create_for(
    session: Session,
    identity: Identity,
    name: str,
    role: Role,
    *,
    member_id: str | None = None,
    scopes: Collection[Scope] | None = None,
    expires_at: datetime | None = None,
    secret: ServerSecret,
) -> tuple[Key, str]:
    """A key of the caller's team: for one of its members, or, without `member_id`, for the caller's own.

    Forbidden for what the caller itself may not do, so that a narrow key never makes a wider one. Invalid for a role or
    scopes beyond the member's, and for an end that has passed.
    """
    require(identity, Scope.KEYS_MANAGE)
    if member_id is None:
        member_id = identity.member_id
    owner = None if member_id is None else members.get(session, identity, member_id)
    if owner is not None and lesser(role, Role(owner.role)) is not role:
        raise Invalid([{"loc": ["body", "role"], "msg": f"member {owner.id} has role {owner.role} only"}])
    granted = frozenset(scopes) if scopes is not None else SCOPES[role]
    if beyond := sorted(granted - SCOPES[role]):
        raise Invalid([{"loc": ["body", "scopes"], "msg": f"a key of role {role} cannot have {', '.join(beyond)}"}])
    if more := sorted(scope for scope in granted if not identity.may(scope)):
        raise Forbidden(f"this key cannot give what it does not have: {', '.join(more)}")
    if expires_at is not None and expires_at <= _now(session):
        raise Invalid([{"loc": ["body", "expires_at"], "msg": "has passed"}])
    return create(
        session,
        identity.team_id,
        name,
        role,
        member_id=member_id,
        scopes=scopes,
        expires_at=expires_at,
        secret=secret,
    )


_AUTHENTICATE = text("SELECT * FROM asym_authenticate(:keyed, :plain, :secret)")


def examine(session: Session, plain: str, secret: ServerSecret | None = None) -> Identity | Refused:
    """Whose key this is, or why it opens nothing. One round trip; none for what cannot be a key.

    Notes its use at most once a minute, and puts a keyed hash in the place of a plain one (the function is
    store.tenancy's: it sees keys of all teams, which the API's own role does not).
    """
    if not is_well_formed(plain):
        return Refused("malformed")
    keyed, secret_id = (None, None) if secret is None else (secret.hmac(_PURPOSE, plain), secret.id)
    found = session.execute(
        _AUTHENTICATE, {"keyed": keyed, "plain": _plain_hash(plain), "secret": secret_id}
    ).one_or_none()
    if found is None:
        return Refused("unknown")
    if found.state != "live":
        return Refused(found.state, found.key_id, found.team_id, found.member_id)
    return Identity(
        key_id=found.key_id,
        team_id=found.team_id,
        role=lesser(Role(found.key_role), Role(found.member_role)),
        member_id=found.member_id,
        scopes=None if found.scopes is None else frozenset(map(Scope, found.scopes)),
    )


def authenticate(session: Session, plain: str, secret: ServerSecret | None = None) -> Identity | None:
    """Whose key this is; None for one that opens nothing."""
    found = examine(session, plain, secret)
    return found if isinstance(found, Identity) else None


def list_page(session: Session, identity: Identity, limit: int, after: str | None = None) -> list[Key]:
    """The team's keys, newest first, ended ones included. For admins."""
    require(identity, Scope.KEYS_MANAGE)
    statement = select(Key).where(of_team(identity, Key)).order_by(Key.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(Key.id < after)))


def revoke(session: Session, identity: Identity, key_id: str) -> Key:
    """End a key; ending it twice changes nothing. For admins."""
    require(identity, Scope.KEYS_MANAGE)
    key = find(session, identity, Key, key_id, lock=True)
    if key.revoked_at is None:
        key.revoked_at = _now(session)
        session.flush()
    return key


def rotate(
    session: Session, identity: Identity, key_id: str, *, grace: timedelta = timedelta(0), secret: ServerSecret
) -> tuple[Key, str]:
    """A new key in the place of one, alike in all but its text; the old one ends after `grace`, or at once.

    A key with an end gets as much time again. Conflict for a key that has ended. For admins, who cannot get by this
    what their own key may not do.
    """
    require(identity, Scope.KEYS_MANAGE)
    old = find(session, identity, Key, key_id, lock=True)
    now = _now(session)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise Conflict(f"{key_id} has ended: make a new key")
    if members.get(session, identity, old.member_id).removed_at is not None:
        raise Conflict(f"the member of {key_id} was removed")
    scopes = None if old.scopes is None else frozenset(map(Scope, old.scopes))
    granted = SCOPES[Role(old.role)] if scopes is None else scopes
    if more := sorted(scope for scope in granted if not identity.may(scope)):
        raise Forbidden(f"this key cannot renew what it does not have: {', '.join(more)}")
    made = create(
        session,
        identity.team_id,
        old.name,
        Role(old.role),
        member_id=old.member_id,
        scopes=scopes,
        expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
        secret=secret,
        rotated_from=old.id,
    )
    if grace <= timedelta(0):
        old.revoked_at = now
    else:
        end = now + min(grace, LONGEST_GRACE)
        old.expires_at = end if old.expires_at is None else min(end, old.expires_at)
    session.flush()
    return made


def made_with_other_secrets(session: Session, secret: ServerSecret) -> int:
    """How many live keys this secret does not open: those of a home or an ASYM_SECRET that was another."""
    live = Key.revoked_at.is_(None) & (Key.expires_at.is_(None) | (Key.expires_at > func.clock_timestamp()))
    statement = select(func.count()).select_from(Key).join(Member, Member.id == Key.member_id)
    return session.scalars(statement.where(live, Member.removed_at.is_(None), Key.secret_id != secret.id)).one()


def claim_first(session: Session) -> bool:
    """Whether there is no key at all, revoked ones included; then nobody else makes one until this transaction ends."""
    session.execute(text(f"LOCK TABLE {Key.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))
    return not session.scalar(select(exists().select_from(Key)))


def _now(session: Session) -> datetime:
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    return now


def _plain_hash(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
