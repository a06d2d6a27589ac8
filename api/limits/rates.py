"""How fast one key, and one address, may ask: 429 with Retry-After beyond it (plain ASGI middleware).

Told with the headers of the IETF draft (draft-ietf-httpapi-ratelimit-headers): `RateLimit-Policy: "key";q=2000;w=4` and
`RateLimit: "key";r=1997;t=0`. An address that sends wrong keys is stopped before the database is asked: they are
counted apart, and much fewer of them are let through. Mistyped keys cost nothing and count as nothing but a request.
"""

import ipaddress
import math

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.audit.trail import client_address, trail_of
from api.limits.gcra import Bucket, Rates, Standing
from api.problems import Problem, respond
from store.key_format import is_well_formed
from store.secret import ServerSecret
from store.settings import Settings

UNLIMITED = frozenset({"/healthz", "/readyz"})
"""What probes ask."""

_WORDS = {
    "key": "this key asks too fast",
    "address": "too many requests from this address",
    "wrong-keys": "too many wrong keys from this address",
}


class RateLimits:
    """Inside of `AuditTrail`, whose trail tells what became of the key."""

    def __init__(self, app: ASGIApp, *, rates: Rates, settings: Settings, secret: ServerSecret) -> None:
        self._app = app
        self._rates = rates
        self._settings = settings
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        wrong_keys = self._wrong_keys(scope)
        standings = await self._rates.ask([*self._buckets(scope), wrong_keys])
        if standings is None:
            await self._app(scope, receive, send)
            return
        slowest = max(standings, key=lambda standing: standing.wait_seconds)
        if slowest.wait_seconds > 0:
            await respond(Request(scope), _too_fast(slowest))(scope, receive, send)
            return
        headers = _headers(standings[0])

        async def send_with_rates(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in headers.items():
                    MutableHeaders(scope=message).setdefault(name, value)
                refused = trail_of(scope).refused
                if refused is not None and refused.reason != "malformed":
                    await self._rates.ask([Bucket(**{**vars(wrong_keys), "take": True})])
            await send(message)

        await self._app(scope, receive, send_with_rates)

    def _buckets(self, scope: Scope) -> list[Bucket]:
        """The key's, where one is sent, and the address's; the one that the client is told of first."""
        settings = self._settings
        found = []
        scheme, _, plain = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and is_well_formed(plain):
            # Redis must not get to know keys.
            name = f"key:{self._secret.hmac('rate', plain)[:32]}"
            found.append(Bucket("key", name, settings.key_requests_per_second, settings.key_burst))
        name = f"address:{network_of(client_address(scope))}"
        found.append(Bucket("address", name, settings.address_requests_per_second, settings.address_burst))
        return found

    def _wrong_keys(self, scope: Scope) -> Bucket:
        most = self._settings.wrong_keys_per_minute
        name = f"wrong-keys:{network_of(client_address(scope))}"
        return Bucket("wrong-keys", name, most / 60, most, take=False)


def network_of(address: str) -> str:
    """Of an IPv6 address its /64, which is what one customer gets; others are themselves."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6:
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _headers(standing: Standing) -> dict[str, str]:
    bucket = standing.bucket
    window = max(1, math.ceil(bucket.burst / bucket.per_second))
    return {
        "RateLimit-Policy": f'"{bucket.policy}";q={bucket.burst};w={window}',
        "RateLimit": f'"{bucket.policy}";r={standing.remaining};t={math.ceil(standing.reset_seconds)}',
    }


def _too_fast(standing: Standing) -> Problem:
    seconds = max(1, math.ceil(standing.wait_seconds))
    return Problem(
        429,
        "too-many-requests",
        f"{_WORDS[standing.bucket.policy]}; try again in {seconds} s",
        headers={**_headers(standing), "Retry-After": str(seconds)},
    )
