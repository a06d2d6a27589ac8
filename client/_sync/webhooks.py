# Generated from client/_async/webhooks.py by `./dev sdk`; edit it there.
"""Webhooks: who outside is told what becomes of jobs (docs/webhooks.md). For admins' keys."""

from collections.abc import Iterator, Sequence
from typing import Any

from client._sync.calls import Calls
from client.results import Delivery, Webhook


class Webhooks(Calls):
    """Part of `Asym`."""

    def create_webhook(
        self, url: str, *, name: str, events: Sequence[str] | None = None, tags: Sequence[str] = ()
    ) -> Webhook:
        """Have an address told of the team's jobs. The answer holds its `secret`: the only time it is shown.

        events: `job.failed`, `job.alert`, ...; all that there are without them. tags: only of jobs that have them all.
        """
        body = {"url": url, "name": name, "tags": list(tags), **({} if events is None else {"events": list(events)})}
        made: Webhook = self._transport.json("POST", "/webhooks", body=body)
        return made

    def webhooks(self) -> list[Webhook]:
        """Newest first."""
        return self._listed("/webhooks", {}, None)

    def webhook(self, webhook_id: str) -> Webhook:
        found: Webhook = self._transport.json("GET", f"/webhooks/{webhook_id}")
        return found

    def edit_webhook(
        self,
        webhook_id: str,
        *,
        name: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        active: bool | None = None,
    ) -> Webhook:
        """Change what is not None. `active=True` switches one on again that the platform has switched off."""
        given: dict[str, Any] = {"name": name, "url": url, "events": events, "tags": tags, "active": active}
        body = {
            key: list(value) if key in ("events", "tags") else value
            for key, value in given.items()
            if value is not None
        }
        changed: Webhook = self._transport.json("PATCH", f"/webhooks/{webhook_id}", body=body)
        return changed

    def delete_webhook(self, webhook_id: str) -> None:
        self._transport.json("DELETE", f"/webhooks/{webhook_id}")

    def rotate_webhook_secret(self, webhook_id: str, *, grace_seconds: int = 0) -> Webhook:
        """Another secret, which the answer holds. For as long as the grace the old one signs, too."""
        body = {"grace_seconds": grace_seconds}
        changed: Webhook = self._transport.json("POST", f"/webhooks/{webhook_id}/rotate", body=body)
        return changed

    def test_webhook(self, webhook_id: str) -> Delivery:
        """Have it told `webhook.test`; `deliveries` says how that went."""
        delivery: Delivery = self._transport.json("POST", f"/webhooks/{webhook_id}/test")
        return delivery

    def deliveries(self, webhook_id: str, *, status: str | None = None, limit: int | None = None) -> Iterator[Delivery]:
        """What it was told, and is still to be told, newest first. status: pending, delivered or failed."""
        return self._all(f"/webhooks/{webhook_id}/deliveries", {"status": status}, limit)

    def replay_delivery(self, webhook_id: str, delivery_id: int) -> Delivery:
        """Have it told this once more, under the same `webhook-id`."""
        path = f"/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"
        delivery: Delivery = self._transport.json("POST", path)
        return delivery
