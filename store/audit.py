"""The audit log: every write over HTTP and every key that was refused, with who, from where, what and how it ended.

Written after the deed and before its answer, in a transaction of its own that does not wait for the disk: a power cut
takes at most the last half second of it, a killed API process the entry of the request in hand. The API's role may add
and read, and change nothing.
"""

from dataclasses import dataclass

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from store.access import Identity, Scope, of_team, require
from store.models import AuditEntry


@dataclass(frozen=True)
class Deed:
    """One entry to be. The ids are those of the key that was sent, as far as it is known."""

    address: str
    action: str
    object: str
    status: int
    team_id: str | None = None
    key_id: str | None = None
    member_id: str | None = None
    reason: str | None = None


def record(session: Session, deed: Deed) -> None:
    """Add an entry. On the serving role the transaction must be that of the deed's team, or the deed of none."""
    session.execute(text("SET LOCAL synchronous_commit = off"))
    session.execute(
        insert(AuditEntry)
        .inline()  # nothing is read back: of an entry of no team the serving role could not
        .values(
            team_id=deed.team_id,
            key_id=deed.key_id,
            member_id=deed.member_id,
            address=deed.address,
            action=deed.action,
            object=deed.object,
            status=deed.status,
            reason=deed.reason,
        )
    )


def list_page(session: Session, identity: Identity, limit: int, after: int | None = None) -> list[AuditEntry]:
    """The team's entries, newest first, from the one behind `after` on. For admins."""
    require(identity, Scope.AUDIT_READ)
    statement = select(AuditEntry).where(of_team(identity, AuditEntry)).order_by(AuditEntry.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(AuditEntry.id < after)))
