"""/webhooks: who outside is told what becomes of jobs. For admins (store.webhooks.hooks says why)."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from api.auth import Admin
from api.openapi import problems
from api.paging import BIGGEST_ID, After, Limit, Page, page
from api.problems import invalid
from api.state import ApiState, State
from api.webhooks.schemas import DeliveryOut, NewWebhook, RotationBody, WebhookEdit, WebhookIn, WebhookOut
from store.models import Webhook
from store.webhooks import hooks, signing
from store.webhooks.targets import TargetRefused, checked_url

router = APIRouter(prefix="/webhooks", tags=["webhooks"], responses=problems(403))

Before = Annotated[int | None, Query(ge=1, le=BIGGEST_ID, description="`next` of the page before.")]
DeliveryId = Annotated[int, Path(ge=1, le=BIGGEST_ID)]
DeliveryStatus = Annotated[
    Literal["pending", "delivered", "failed"] | None, Query(description="Only those with this status.")
]


def _checked(state: ApiState, url: str) -> str:
    try:
        return checked_url(url, state.settings.webhook_hosts)
    except TargetRefused as error:
        raise invalid(["body", "url"], str(error)) from error


def _with_secret(state: ApiState, hook: Webhook) -> NewWebhook:
    secret = signing.secret_of(state.secret, hook.id, hook.secret_version)
    return NewWebhook(**WebhookOut.of(hook).model_dump(), secret=secret)


@router.post("", status_code=201, responses=problems(403, 409))
def create_webhook(wanted: WebhookIn, state: State, admin: Admin, response: Response) -> NewWebhook:
    """Have an address told of the team's jobs. The answer is the only place where its secret is shown."""
    url = _checked(state, wanted.url)
    with state.database.transaction() as session:
        hook = hooks.create(session, admin, name=wanted.name, url=url, events=wanted.events, tags=wanted.tags)
    response.headers["Location"] = f"/webhooks/{hook.id}"
    return _with_secret(state, hook)


@router.get("")
def list_webhooks(state: State, admin: Admin, limit: Limit = 50, after: After = None) -> Page[WebhookOut]:
    """The team's webhooks, newest first."""
    with state.database.transaction() as session:
        rows = hooks.list_page(session, admin, limit + 1, after)
    return page(rows, limit, WebhookOut.of, lambda hook: hook.id)


@router.get("/{hook_id}", responses=problems(403, 404))
def get_webhook(hook_id: str, state: State, admin: Admin) -> WebhookOut:
    """One webhook, and whether it can be reached."""
    with state.database.transaction() as session:
        return WebhookOut.of(hooks.get(session, admin, hook_id))


@router.patch("/{hook_id}", responses=problems(403, 404))
def edit_webhook(hook_id: str, wanted: WebhookEdit, state: State, admin: Admin) -> WebhookOut:
    """Change it, switch it off, or on again after the platform has switched it off."""
    url = None if wanted.url is None else _checked(state, wanted.url)
    with state.database.transaction() as session:
        hook = hooks.edit(
            session,
            admin,
            hook_id,
            name=wanted.name,
            url=url,
            events=wanted.events,
            tags=wanted.tags,
            active=wanted.active,
        )
    return WebhookOut.of(hook)


@router.delete("/{hook_id}", status_code=204, responses=problems(403, 404))
def delete_webhook(hook_id: str, state: State, admin: Admin) -> None:
    """It is told nothing more; a call that is under way is not taken back."""
    with state.database.transaction() as session:
        hooks.delete(session, admin, hook_id)


@router.post("/{hook_id}/rotate", status_code=201, responses=problems(403, 404))
def rotate_webhook_secret(hook_id: str, state: State, admin: Admin, rotation: RotationBody = None) -> NewWebhook:
    """Another secret. The old one signs no more, or, with a grace, beside the new one for as long."""
    grace = timedelta(seconds=0 if rotation is None else rotation.grace_seconds)
    with state.database.transaction() as session:
        hook = hooks.rotate(session, admin, hook_id, grace)
    return _with_secret(state, hook)


@router.post("/{hook_id}/test", status_code=202, responses=problems(403, 404, 409))
def test_webhook(hook_id: str, state: State, admin: Admin) -> DeliveryOut:
    """Have it told `webhook.test`, whatever its events are. Its deliveries say how that went."""
    with state.database.transaction() as session:
        return DeliveryOut.of(hooks.test(session, admin, hook_id))


@router.get("/{hook_id}/deliveries", responses=problems(403, 404))
def list_deliveries(
    hook_id: str, state: State, admin: Admin, limit: Limit = 50, after: Before = None, status: DeliveryStatus = None
) -> Page[DeliveryOut]:
    """What it was told, and is still to be told, newest first; kept for 30 days."""
    with state.database.transaction() as session:
        rows = hooks.deliveries_page(session, admin, hook_id, limit + 1, after, status)
    return page(rows, limit, DeliveryOut.of, lambda delivery: delivery.id)


@router.post("/{hook_id}/deliveries/{delivery_id}/replay", status_code=202, responses=problems(403, 404, 409))
def replay_delivery(hook_id: str, delivery_id: DeliveryId, state: State, admin: Admin) -> DeliveryOut:
    """Have it told this once more, under the same `webhook-id`."""
    with state.database.transaction() as session:
        return DeliveryOut.of(hooks.replay(session, admin, hook_id, delivery_id))
