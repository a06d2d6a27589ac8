"""How a receiver knows that a call is ours: the Standard Webhooks specification (standardwebhooks.com), version v1.

A webhook's secret is kept nowhere. It is an HMAC of the webhook's id, and of how often it was rotated, under the
server's secret: a copy of the database tells nobody, and every process of the API can sign. With another server's
secret (ASYM_SECRET) every webhook has another secret, just as every API key is void.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from store.secret import ServerSecret

PREFIX = "whsec_"
_PURPOSE = "webhook"


def secret_of(server: ServerSecret, hook_id: str, version: int) -> str:
    """`whsec_` and 32 bytes in base 64, as the libraries of Standard Webhooks take it."""
    return PREFIX + base64.b64encode(bytes.fromhex(server.hmac(_PURPOSE, f"{hook_id}/{version}"))).decode()


def headers(secrets: Sequence[str], delivery_id: int, seconds: int, body: bytes) -> dict[str, str]:
    """What goes with this body; signed with each secret, since a receiver may know the old one or the new.

    seconds: the Unix time of the call. The id is the delivery's and stays the same however often it is tried.
    """
    message_id = f"dlv_{delivery_id}"
    signatures = " ".join(_signature(secret, f"{message_id}.{seconds}.".encode() + body) for secret in secrets)
    return {"webhook-id": message_id, "webhook-timestamp": str(seconds), "webhook-signature": signatures}


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
