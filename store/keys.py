"""Teams and their API keys. A key is shown once, when it is made; the database keeps its hash."""

import base64
import hashlib
import secrets

from sqlalchemy import exists, func, select, text, update
from sqlalchemy.orm import Session

from store.access import Identity, Role, find, of_team, require_admin
from store.ids import new_id
from store.models import Key, Team

_PREFIX_LENGTH = len("asym_") + 6


def create_team(session: Session, name: str) -> Team:
    """A new team. sqlalchemy.exc.IntegrityError when the name is taken."""
    team = Team(id=new_id("team"), name=name)
    session.add(team)
    session.flush()
    return team


def create(session: Session, team_id: str, name: str, role: Role) -> tuple[Key, str]:
    """A new key and its plain text, which nothing can show again."""
    plain = "asym_" + base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    key = Key(
        id=new_id("key"), team_id=team_id, name=name, prefix=plain[:_PREFIX_LENGTH], hash=_hash(plain), role=role.value
    )
    session.add(key)
    session.flush()
    return key, plain


def authenticate(session: Session, plain: str) -> Identity | None:
    """Whose key this is; None for an unknown or revoked one. Notes its use at most once a minute."""
    if not plain.isascii():
        return None
    now = func.clock_timestamp()
    noted_lately = Key.last_used_at > now - text("interval '1 minute'")
    found = session.execute(
        select(Key.id, Key.team_id, Key.role, noted_lately).where(Key.hash == _hash(plain), Key.revoked_at.is_(None))
    ).one_or_none()
    if found is None:
        return None
    key_id, team_id, role, noted = found
    if not noted:
        session.execute(update(Key).where(Key.id == key_id).values(last_used_at=now))
    return Identity(key_id=key_id, team_id=team_id, role=Role(role))


def list_page(session: Session, identity: Identity, limit: int, after: str | None = None) -> list[Key]:
    """The team's keys, newest first, revoked ones included. For admins."""
    require_admin(identity)
    statement = select(Key).where(of_team(identity, Key)).order_by(Key.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(Key.id < after)))


def revoke(session: Session, identity: Identity, key_id: str) -> Key:
    """End a key; ending it twice changes nothing. For admins."""
    require_admin(identity)
    key = find(session, identity, Key, key_id, lock=True)
    if key.revoked_at is None:
        key.revoked_at = session.scalar(select(func.clock_timestamp()))
        session.flush()
    return key


def claim_first(session: Session) -> bool:
    """Whether there is no key at all, revoked ones included; then nobody else makes one until this transaction ends."""
    session.execute(text(f"LOCK TABLE {Key.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))
    return not session.scalar(select(exists().select_from(Key)))


def _hash(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
