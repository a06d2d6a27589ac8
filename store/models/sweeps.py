"""Sweeps and their members."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base, few


class Sweep(Base):
    """A plan of many jobs. Which jobs they are is in SweepMember; how far they are, theirs to say."""

    __tablename__ = "sweeps"
    __table_args__ = (
        Index(None, "team_id", "id"),
        # Those that the rules have to look after.
        Index("ix_sweeps_ruled", "id", postgresql_where=text("ruled AND ended_because IS NULL")),
        few("uq_sweeps_team_id_idempotency_key", "team_id", "idempotency_key", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    plan: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The resolved SweepSpec."""
    ruled: Mapped[bool]
    """It has a budget, or a rule that ends members early."""
    ended_because: Mapped[str | None]
    """Why no member of it is to begin or go on: it was cancelled, or its budget is used up."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    idempotency_key: Mapped[str | None]
    idempotency_hash: Mapped[str | None]


class SweepMember(Base):
    __tablename__ = "sweep_members"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """From 0, in the plan's order."""
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), unique=True)
    """The newest job of the member: a retry takes the place of the one it goes on for. Null: it was deleted."""
    point: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What it has of its own, by path."""
    seed: Mapped[int] = mapped_column(BigInteger)
    judged_step: Mapped[int | None]
    """Up to which step the sweep's rule has judged it."""
    stopped_because: Mapped[str | None]
    """Why the sweep's rules ended it."""
