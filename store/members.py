"""The members of a team: people and programs, each with a role that none of its keys exceeds."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.access import Identity, Role, Scope, find, of_team, require
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.models import Member, Team


def normalized(login: str) -> str:
    """As logins are kept and compared: addresses of mail are the same in either case."""
    return login.strip().casefold()


def create(session: Session, team_id: str, name: str, role: Role, login: str | None = None) -> Member:
    """A new member, without a key. Conflict when another member of the team signs in under this login."""
    member = Member(id=new_id("member"), team_id=team_id, name=name, role=role.value)
    session.add(member)
    _let_sign_in(session, member, login)
    session.flush()
    return member


def add(session: Session, identity: Identity, name: str, role: Role, login: str | None = None) -> Member:
    """A new member of the caller's team. For admins. Conflict when another member has this login."""
    require(identity, Scope.MEMBERS_MANAGE)
    return create(session, identity.team_id, name, role, login)


def get(session: Session, identity: Identity, member_id: str) -> Member:
    """NotFound for a removed one too."""
    member = find(session, identity, Member, member_id)
    if member.removed_at is not None:
        raise NotFound("member", member_id)
    return member


def list_page(session: Session, identity: Identity, limit: int, after: str | None = None) -> list[Member]:
    """Newest first, those that were removed left out."""
    require(identity, Scope.READ)
    statement = select(Member).where(of_team(identity, Member), Member.removed_at.is_(None))
    statement = statement.order_by(Member.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(Member.id < after)))


def change(
    session: Session,
    identity: Identity,
    member_id: str,
    *,
    name: str | None = None,
    role: Role | None = None,
    login: str | None = None,
) -> Member:
    """Another name, role or login. A lower role holds for all of the member's keys at once; a higher one only for new
    keys. An empty login ends signing in.

    For admins. Conflict when the team would be left without an admin, or another member has this login.
    """
    member = _for_change(session, identity, member_id)
    if login is not None:
        _let_sign_in(session, member, login)
    if name is not None:
        member.name = name
    if role is not None and role.value != member.role:
        if role is not Role.ADMIN:
            _leave_an_admin(session, identity, member)
        member.role = role.value
    session.flush()
    return member


def remove(session: Session, identity: Identity, member_id: str) -> None:
    """Take a member out of the team; every key of it ends at once. Jobs and data sets stay, they are the team's.

    For admins. Conflict when the team would be left without an admin.
    """
    member = _for_change(session, identity, member_id)
    _leave_an_admin(session, identity, member)
    member.removed_at = session.scalar(select(func.clock_timestamp()))
    session.flush()


def _let_sign_in(session: Session, member: Member, login: str | None) -> None:
    wanted = normalized(login or "") or None
    if wanted is not None:
        _lock_team(session, member.team_id)
        held = select(Member.id).where(
            Member.team_id == member.team_id,
            Member.login == wanted,
            Member.removed_at.is_(None),
            Member.id != member.id,
        )
        with session.no_autoflush:
            if (other := session.scalar(held)) is not None:
                raise Conflict(f"{other} signs in as {wanted}")
    member.login = wanted


def _lock_team(session: Session, team_id: str) -> None:
    """Of two admins who remove each other at once one must stay; of two who give the same login, one waits."""
    session.execute(select(Team.id).where(Team.id == team_id).with_for_update(key_share=True))


def _for_change(session: Session, identity: Identity, member_id: str) -> Member:
    require(identity, Scope.MEMBERS_MANAGE)
    _lock_team(session, identity.team_id)
    member = find(session, identity, Member, member_id, lock=True)
    if member.removed_at is not None:
        raise NotFound("member", member_id)
    return member


def _leave_an_admin(session: Session, identity: Identity, leaving: Member) -> None:
    if leaving.role != Role.ADMIN:
        return
    others = select(Member.id).where(
        of_team(identity, Member),
        Member.id != leaving.id,
        Member.role == Role.ADMIN.value,
        Member.removed_at.is_(None),
    )
    if session.scalars(others.limit(1)).first() is None:
        raise Conflict(f"{leaving.id} is the team's last admin: make another one first")
