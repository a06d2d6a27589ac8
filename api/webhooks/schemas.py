"""What requests about webhooks bring, and what they are answered."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Body
from pydantic import BaseModel, Field, StringConstraints

from api.jobs.schemas import Tags
from api.openapi import example
from api.request_text import Name
from store.models import Webhook, WebhookDelivery
from store.webhooks import hooks
from store.webhooks.events import HookEvent
from store.webhooks.targets import MAX_URL

HOOK_EXAMPLE = {
    "id": "hook_01jz8xq9w8e7r6t5y4u3i2o1pc",
    "name": "alerts to the channel",
    "url": "https://hooks.example.com/asym",
    "events": ["job.failed", "job.alert"],
    "tags": ["production"],
    "active": True,
    "switched_off_because": None,
    "failing_since": None,
    "old_secret_until": None,
    "created_at": "2026-01-15T09:00:00Z",
}
SECRET_EXAMPLE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the specification's own example

DELIVERY_EXAMPLE = {
    "id": 4711,
    "event": "job.failed",
    "job_id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
    "status": "delivered",
    "tries": 1,
    "due_at": None,
    "tried_at": "2026-01-15T09:31:05Z",
    "delivered_at": "2026-01-15T09:31:05Z",
    "answer": 204,
    "error": None,
    "created_at": "2026-01-15T09:31:04Z",
    "data": {
        "event_id": 90210,
        "job": {
            "id": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
            "name": "gsm8k-asym",
            "status": "failed",
            "attempt": 1,
            "step": 40,
            "steps": 100,
            "tags": ["production"],
        },
        "message": "the loss is not a number",
        "details": {"failure": {"kind": "user", "code": "diverged", "message": "the loss is not a number"}},
    },
}

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
Events = Annotated[list[HookEvent], Field(min_length=1, max_length=len(HookEvent))]


class WebhookIn(BaseModel):
    model_config = example({key: HOOK_EXAMPLE[key] for key in ("name", "url", "events", "tags")}, extra="forbid")

    name: Name
    url: Url
    """Of a host that the operator allows (ASYM_WEBHOOK_HOSTS)."""
    events: Events = Field(default_factory=lambda: list(HookEvent))
    """Which kinds; without them, all there are now."""
    tags: Tags = []
    """Only of jobs that have all of these tags."""


class WebhookEdit(BaseModel):
    """What is given is changed."""

    model_config = example({"active": True}, extra="forbid")

    name: Name | None = None
    url: Url | None = None
    events: Events | None = None
    tags: Tags | None = None
    active: Annotated[bool, Field(strict=True)] | None = None
    """false: it is told nothing, and what it was still to be told has failed. true: on again."""


class Rotation(BaseModel):
    model_config = example({"grace_seconds": 3600}, extra="forbid")

    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=int(hooks.LONGEST_GRACE.total_seconds()))] = 0
    """For how long deliveries are signed with the old secret, too."""


RotationBody = Annotated[
    Rotation | None, Body(openapi_examples={"an hour to change over": {"value": {"grace_seconds": 3600}}})
]


class WebhookOut(BaseModel):
    """A webhook, without its secret."""

    model_config = example(HOOK_EXAMPLE)

    id: str
    name: str
    url: str
    events: list[HookEvent]
    tags: list[str]
    active: bool
    switched_off_because: str | None
    """Why the platform switched it off; null where it is on, or somebody switched it off."""
    failing_since: datetime | None
    """Since when no try has succeeded; null where the last one did."""
    old_secret_until: datetime | None
    """Until when deliveries are signed with the secret before, too."""
    created_at: datetime

    @classmethod
    def of(cls, hook: Webhook) -> Self:
        return cls.model_validate(hook, from_attributes=True)


class NewWebhook(WebhookOut):
    model_config = example({**HOOK_EXAMPLE, "secret": SECRET_EXAMPLE})

    secret: str
    """What its deliveries are signed with, as libraries of the Standard Webhooks specification take it. It is shown
    here only."""


class DeliveryOut(BaseModel):
    """Something that a webhook is to be told, and how that went."""

    model_config = example(DELIVERY_EXAMPLE)

    id: int
    """Its `webhook-id` is `dlv_` and this."""
    event: str
    job_id: str | None
    status: Literal["pending", "delivered", "failed"]
    tries: int
    """Since it was made, or last replayed."""
    due_at: datetime | None
    """When a pending one is tried next."""
    tried_at: datetime | None
    delivered_at: datetime | None
    answer: int | None
    """The HTTP status of the last try's answer; null when there was none."""
    error: str | None
    """Why the last try failed."""
    created_at: datetime
    data: dict[str, Any]
    """What it is told."""

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> Self:
        shown = cls.model_validate(delivery, from_attributes=True)
        shown.data = {key: value for key, value in delivery.data.items() if key != "at"}
        if delivery.status != "pending":
            shown.due_at = None
        return shown
