"""Teams, who belongs to them, and by which keys they are known."""

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base


class Team(Base):
    __tablename__ = "teams"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    max_running_gpus: Mapped[int | None]
    """This and the other limits: NULL is the platform's default, -1 no limit (store.policy)."""
    max_queued_jobs: Mapped[int | None]
    max_gpu_hours: Mapped[int | None]
    max_disk_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class TeamUsage(Base):
    """What a team has used of one kind of slot (store.usage)."""

    __tablename__ = "team_usage"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """gpu or cpu."""
    recent: Mapped[float]
    """GPU-seconds (seconds of CPU slots), those of long ago decayed, as of `at`."""
    at: Mapped[datetime]
    month: Mapped[date]
    month_seconds: Mapped[float]


class Member(Base):
    """Somebody of a team, a person or a program. Removed members stay, since keys, jobs and the audit log name them."""

    __tablename__ = "members"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    name: Mapped[str]
    role: Mapped[str]
    login: Mapped[str | None]
    """Under which name, as the identity provider says it, the member signs in (store.sign_in); null: by keys only."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    removed_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_members_login",
            "login",
            "team_id",
            unique=True,
            postgresql_where=text("login IS NOT NULL AND removed_at IS NULL"),
        ),
    )


class Key(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    member_id: Mapped[str] = mapped_column(ForeignKey("members.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    """The key's first characters, to tell keys apart in a list."""
    hash: Mapped[str] = mapped_column(unique=True)
    """HMAC-SHA-256 of the key under the server's secret. The key is 256 random bits, so no slow hash is needed."""
    secret_id: Mapped[str | None]
    """Which secret (store.secret). NULL: a plain SHA-256 of before there was one; the next use replaces it."""
    role: Mapped[str]
    scopes: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    """What it was narrowed to; NULL: all that its role may do."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    rotated_from: Mapped[str | None]
    """The key that this one takes the place of. Only a note."""


class AuditEntry(Base):
    """Who did what, or was refused it. No foreign keys: an entry outlives whatever it speaks of."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "team_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    team_id: Mapped[str | None]
    """NULL: nobody known; for the operator only."""
    key_id: Mapped[str | None]
    member_id: Mapped[str | None]
    address: Mapped[str]
    """Where the request came from, as far as the API can tell."""
    action: Mapped[str]
    """The route's operation id, such as create_job; authenticate for a key that was refused."""
    object: Mapped[str]
    """The id of what it was done to or what it made, else the path."""
    status: Mapped[int] = mapped_column(SmallInteger)
    """The HTTP status of the answer."""
    reason: Mapped[str | None]
    """Why a key was refused: unknown, revoked, expired or removed."""
