"""The metrics of a job: new rows, the chunks they become, and what was taken back."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Double, ForeignKey, Identity, Index, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base


class JobMetric(Base):
    """The truth about a job's metrics: one row per step, with all that was measured at it."""

    __tablename__ = "job_metrics"
    __table_args__ = (Index(None, "job_id", "revision"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    values: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(BigInteger, Identity())
    """Given anew whenever the row is written; those of one job grow in the order of the commits (store.metrics)."""


class JobMetricChunk(Base):
    """What is read in place of the rows: a key's points of 128 buckets of 2^level steps (store.metrics.levels)."""

    __tablename__ = "job_metric_chunks"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    """It begins at step chunk * 128 * 2^level."""
    count: Mapped[int]
    """How many values were measured in its steps; there are fewer points where they are thinned."""
    steps: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    """Of each point; NULL at level 0 when every step has one."""
    numbers: Mapped[list[float | None] | None] = mapped_column(ARRAY(Double))
    """The points' values, NULL where undefined; where all are floats or undefined."""
    others: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The points' values where there are whole numbers or lists among them."""


class JobMetricSupersession(Base):
    """An attempt went on from `kept` and took back what had been measured after that step."""

    __tablename__ = "job_metric_supersessions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """From the sequence of job_metrics.revision: its place among the rows' changes."""
    kept: Mapped[int]
