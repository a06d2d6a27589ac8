"""Requests to sample from a model, and the parts of their answers."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base, few


class Sampling(Base):
    """A request to sample from a model, until a while after it is answered."""

    __tablename__ = "samplings"
    __table_args__ = (
        Index(None, "team_id", "id"),
        Index("ix_samplings_waiting", "team_id", "model", "id", postgresql_where=text("status = 'waiting'")),
        Index("ix_samplings_open", "expires_at", postgresql_where=text("finished_at IS NULL")),
        Index("ix_samplings_sampler_id", "sampler_id"),
        few("ix_samplings_finished_at", "finished_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    model: Mapped[str]
    status: Mapped[str]
    """store.sampling.SamplingStatus."""
    request: Mapped[dict[str, Any]]
    """trainer.spec.sampling.SamplingRequest."""
    sampler_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    """The job that answers it."""
    attempt: Mapped[int | None]
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """trainer.spec.events.SamplingError."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class SamplingPart(Base):
    """A part of an answer."""

    __tablename__ = "sampling_parts"

    sampling_id: Mapped[str] = mapped_column(ForeignKey("samplings.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[str]
    """The request's: its rows are told apart by it (store.tenancy)."""
    deltas: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """trainer.spec.events.Delta."""
