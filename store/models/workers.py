"""Workers, and the GPUs that are kept for a large job."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, ForeignKey, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base


class Worker(Base):
    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    gpus: Mapped[int]
    cpu_slots: Mapped[int]
    devices: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """{name, memory_gb} of each GPU, null where it could not be read."""
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    version: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=NOW)
    draining_at: Mapped[datetime | None]
    lost_at: Mapped[datetime | None]
    """Not heard from; it may come back."""
    stopped_at: Mapped[datetime | None]


class Reservation(Base):
    """A worker whose GPUs are kept free for a job that needs several at once (store.reservations)."""

    __tablename__ = "reservations"

    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    made_at: Mapped[datetime] = mapped_column(server_default=NOW)
