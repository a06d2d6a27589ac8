"""Webhooks and their deliveries."""

from typing import Any, Literal, NotRequired, TypedDict


class Webhook(TypedDict):
    id: str
    name: str
    url: str
    events: list[str]
    tags: list[str]
    """Only of jobs that have all of these."""
    active: bool
    switched_off_because: str | None
    failing_since: str | None
    old_secret_until: str | None
    created_at: str
    secret: NotRequired[str]
    """`whsec_...`, only in the answer that made it."""


class Delivery(TypedDict):
    """Something that a webhook is to be told, and how that went."""

    id: int
    event: str
    job_id: str | None
    status: Literal["pending", "delivered", "failed"]
    tries: int
    due_at: str | None
    tried_at: str | None
    delivered_at: str | None
    answer: int | None
    error: str | None
    created_at: str
    data: dict[str, Any]
