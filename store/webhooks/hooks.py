"""What a team does with its webhooks: set up, look, change, try out, and have deliveries made again.

All of it is for admins: a webhook tells of everybody's jobs, goes on when its maker has left, and its address may hold
a password of the other side.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.access import Identity, Scope, find, of_team, require
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.models import Webhook, WebhookDelivery
from store.webhooks.events import TEST, HookEvent

MOST = 20
"""Webhooks that a team may have."""
LONGEST_GRACE = timedelta(days=7)
_OFF = "the webhook was switched off before this was delivered"


def create(
    session: Session, identity: Identity, *, name: str, url: str, events: Sequence[HookEvent], tags: Sequence[str]
) -> Webhook:
    """url: checked (store.webhooks.targets). Conflict when the team has as many as it may."""
    require(identity, Scope.WEBHOOKS_MANAGE)
    there = session.scalar(select(func.count()).select_from(Webhook).where(of_team(identity, Webhook)))
    if (there or 0) >= MOST:
        raise Conflict(f"the team has {MOST} webhooks, which is as many as it may have: delete one first")
    hook = Webhook(
        id=new_id("hook"),
        team_id=identity.team_id,
        created_by=identity.key_id,
        name=name,
        url=url,
        events=[event.value for event in events],
        tags=list(tags),
    )
    session.add(hook)
    session.flush()
    return hook


def get(session: Session, identity: Identity, hook_id: str) -> Webhook:
    require(identity, Scope.WEBHOOKS_MANAGE)
    return find(session, identity, Webhook, hook_id)


def list_page(session: Session, identity: Identity, limit: int, after: str | None = None) -> list[Webhook]:
    """Newest first."""
    require(identity, Scope.WEBHOOKS_MANAGE)
    statement = select(Webhook).where(of_team(identity, Webhook)).order_by(Webhook.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(Webhook.id < after)))


def edit(
    session: Session,
    identity: Identity,
    hook_id: str,
    *,
    name: str | None = None,
    url: str | None = None,
    events: Sequence[HookEvent] | None = None,
    tags: Sequence[str] | None = None,
    active: bool | None = None,
) -> Webhook:
    """None leaves a thing as it is. Switched off, it is told nothing, and what it was still to be told has failed;
    switched on, it begins anew."""
    hook = _for_change(session, identity, hook_id)
    if name is not None:
        hook.name = name
    if url is not None:
        hook.url = url
    if events is not None:
        hook.events = [event.value for event in events]
    if tags is not None:
        hook.tags = list(tags)
    if active is not None and active != hook.active:
        hook.active = active
        hook.switched_off_because = hook.failing_since = None
        if not active:
            fail_pending(session, hook_id)
    session.flush()
    return hook


def fail_pending(session: Session, hook_id: str) -> None:
    """Of a locked webhook that is being switched off."""
    pending = (WebhookDelivery.hook_id == hook_id) & (WebhookDelivery.status == "pending")
    session.execute(update(WebhookDelivery).where(pending).values(status="failed", error=_OFF))


def delete(session: Session, identity: Identity, hook_id: str) -> None:
    """It is out of sight, and told nothing more, at once; the rows go later (`turns.prune`)."""
    hook = _for_change(session, identity, hook_id)
    hook.deleted_at = session.scalar(select(func.clock_timestamp()))
    session.flush()


def rotate(session: Session, identity: Identity, hook_id: str, grace: timedelta = timedelta(0)) -> Webhook:
    """It has another secret from now on; for as long as `grace`, deliveries are signed with the old one, too."""
    hook = _for_change(session, identity, hook_id)
    hook.secret_version += 1
    now = session.scalars(select(func.clock_timestamp())).one()
    hook.old_secret_until = now + min(grace, LONGEST_GRACE) if grace > timedelta(0) else None
    session.flush()
    return hook


def test(session: Session, identity: Identity, hook_id: str) -> WebhookDelivery:
    """Have it told that this is a test. Conflict while it is switched off."""
    hook = _must_be_on(_for_change(session, identity, hook_id))
    at = session.scalars(select(func.to_char(func.timezone("UTC", func.clock_timestamp()), _RFC_3339))).one()
    data = {"at": at, "message": "a test: nothing has happened to any job", "webhook": {"id": hook.id}}
    delivery = WebhookDelivery(hook_id=hook.id, team_id=hook.team_id, event=TEST, data=data)
    session.add(delivery)
    session.flush()
    return delivery


_RFC_3339 = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def deliveries_page(
    session: Session,
    identity: Identity,
    hook_id: str,
    limit: int,
    after: int | None = None,
    status: str | None = None,
) -> list[WebhookDelivery]:
    """Newest first."""
    hook = get(session, identity, hook_id)
    statement = select(WebhookDelivery).where(WebhookDelivery.hook_id == hook.id)
    if after is not None:
        statement = statement.where(WebhookDelivery.id < after)
    if status is not None:
        statement = statement.where(WebhookDelivery.status == status)
    return list(session.scalars(statement.order_by(WebhookDelivery.id.desc()).limit(limit)))


def replay(session: Session, identity: Identity, hook_id: str, delivery_id: int) -> WebhookDelivery:
    """Have it told this again, whatever became of it, with all its tries before it and the same `webhook-id`.

    Conflict while the webhook is switched off.
    """
    hook = _must_be_on(_for_change(session, identity, hook_id))
    delivery = session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.hook_id == hook.id, WebhookDelivery.id == delivery_id)
        .with_for_update()
    ).one_or_none()
    if delivery is None:
        raise NotFound("delivery", str(delivery_id))
    delivery.status, delivery.tries = "pending", 0
    delivery.answer = delivery.error = delivery.delivered_at = None
    delivery.due_at = session.scalars(select(func.clock_timestamp())).one()
    session.flush()
    return delivery


def _must_be_on(hook: Webhook) -> Webhook:
    if not hook.active:
        raise Conflict(f"{hook.id} is switched off: switch it on first (active: true)")
    return hook


def _for_change(session: Session, identity: Identity, hook_id: str) -> Webhook:
    require(identity, Scope.WEBHOOKS_MANAGE)
    return find(session, identity, Webhook, hook_id, lock=True)
