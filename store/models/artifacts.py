"""Rollouts and checkpoints: rows here, contents in the artifact store."""

from datetime import datetime

from sqlalchemy import ARRAY, REAL, BigInteger, ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base


class Rollout(Base):
    __tablename__ = "rollouts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    group_index: Mapped[int] = mapped_column(primary_key=True)
    sample_index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    row: Mapped[int] = mapped_column(BigInteger)
    prompt: Mapped[str]
    completion: Mapped[str]
    answer: Mapped[str]
    reward: Mapped[float]
    correct: Mapped[bool]
    advantage: Mapped[float]
    bonus: Mapped[float | None]
    tokens: Mapped[int]
    truncated: Mapped[bool]
    entropy: Mapped[float | None]
    token_entropies: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    """Nats, one per token; null where the spec does not ask for them."""
    token_ends: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    """Where each token ends in the completion, in characters."""


class Checkpoint(Base):
    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    path: Mapped[str]
    """Relative to the artifact root."""
    manifest_sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    superseded_at: Mapped[datetime | None]
    """A later attempt went on from an earlier step: nothing starts from this one again."""
    deleted_at: Mapped[datetime | None]
