"""Data sets."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base


class Dataset(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("team_id", "name", "version"),
        Index(None, "team_id", "id"),
        Index(None, "sha256"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    version: Mapped[int]
    """Of this name in its team, 1 for the first; a number is never given twice."""
    filename: Mapped[str]
    format: Mapped[str]
    columns: Mapped[list[str]]
    column_mapping: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Which columns the uploader named as prompt and answer: what a job on it takes that names none."""
    statistics: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """trainer.spec.dataset.Statistics; None of those uploaded before there were any."""
    rows: Mapped[int] = mapped_column(BigInteger)
    unanswered_rows: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    deleted_at: Mapped[datetime | None]
