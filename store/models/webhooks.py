"""Webhooks and their deliveries."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Identity, Index, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base


class Webhook(Base):
    """An address that a team wants to be told at (store.webhooks). Its secret is nowhere: it follows from the id."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "team_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Of which kinds (store.webhooks.events)."""
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Only of jobs that have all of these."""
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    switched_off_because: Mapped[str | None]
    """Why the platform switched it off; NULL where it is on, or where somebody switched it off."""
    failing_since: Mapped[datetime | None]
    """When the first of the tries failed since which none has succeeded."""
    secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    old_secret_until: Mapped[datetime | None]
    """Until when the version before signs, too."""
    turn: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The fence: grows with every process that takes its deliveries on."""
    busy_until: Mapped[datetime | None]
    """Somebody delivers to it, and is to be given up after this."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    deleted_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """Something that a webhook is to be told, and how that went. Written by a trigger on job_events (migration 0020),
    so in the very transaction that changes the job."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "hook_id", "id"),
        Index("ix_webhook_deliveries_pending", "hook_id", "job_id", "id", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    hook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    team_id: Mapped[str]
    job_id: Mapped[str | None]
    """Only a note: the job may be gone."""
    event: Mapped[str]
    data: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="pending")
    """pending, delivered or failed."""
    tries: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Since it was made, or was last asked to be replayed."""
    due_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """When a pending one is tried next."""
    tried_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    answer: Mapped[int | None] = mapped_column(SmallInteger)
    """The HTTP status of the last try's answer."""
    error: Mapped[str | None]
    """Why the last try failed."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
