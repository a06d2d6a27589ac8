"""The members of a team: people and programs, each with a role that none of its keys exceeds."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.access import Identity, Role, Scope, find, of_team, require
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.models import Member, Team


def create(session: Session, team_id: str, name: str, role: Role) -> Member:
    """A new member, without a key."""
    member = Member(id=new_id("member"), team_id=team_id, name=name, role=role.value)
    session.add(member)
    session.flush()
    return member


def add(session: Session, identity: Identity, name: str, role: Role) -> Member:
    """A new member of the caller's team. For admins."""
    require(identity, Scope.MEMBERS_MANAGE)
    return create(session, identity.team_id, name, role)


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
    session: Session, identity: Identity, member_id: str, *, name: str | None = None, role: Role | None = None
) -> Member:
    """Another name or role. A lower role holds for all of the member's keys at once; a higher one only for new keys.

    For admins. Conflict when the team would be left without an admin.
    """
    member = _for_change(session, identity, member_id)
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


def _for_change(session: Session, identity: Identity, member_id: str) -> Member:
    require(identity, Scope.MEMBERS_MANAGE)
    # The team first: of two admins who remove each other at the same moment, one must stay.
    session.execute(select(Team.id).where(Team.id == identity.team_id).with_for_update(key_share=True))
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
