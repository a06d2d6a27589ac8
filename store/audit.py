"""The audit log: every write over HTTP and every key that was refused, with who, from where, what and how it ended.

Written after the deed and before its answer, in a transaction of its own that does not wait for the disk: a power cut
takes at most the last half second of it, a killed API process the entry of the request in hand. The API's role may add
and read, and change nothing.
"""

from dataclasses import asdict, dataclass

from sqlalchemy import select, text
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


_PRUNED_AT_ONCE = 1000

# Ids grow with time: the oldest are the first of the primary key, and nothing else is read.
_PRUNE = text("""
DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log ORDER BY id LIMIT :most)
AND at < clock_timestamp() - make_interval(days => :days)
""")

_NOTE = text(
    "SELECT asym_note(:team_id, :key_id, :member_id, :address, :action, :object, CAST(:status AS smallint), :reason)"
)


def record(session: Session, deed: Deed) -> None:
    """Add an entry. From here on the transaction is that of the deed's team, and its commit does not wait."""
    session.execute(_NOTE, asdict(deed))


def prune(session: Session, days: int) -> int:
    """Delete the oldest of the entries that are older than so many days, a thousand at most; how many. 0: none ever is.

    For the tables' owner; the API's own role deletes nothing.
    """
    if not days:
        return 0
    done = session.execute(_PRUNE, {"most": _PRUNED_AT_ONCE, "days": days})
    return int(done.rowcount)  # type: ignore[attr-defined]


def list_page(session: Session, identity: Identity, limit: int, after: int | None = None) -> list[AuditEntry]:
    """The team's entries, newest first, from the one behind `after` on. For admins."""
    require(identity, Scope.AUDIT_READ)
    statement = select(AuditEntry).where(of_team(identity, AuditEntry)).order_by(AuditEntry.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(AuditEntry.id < after)))
