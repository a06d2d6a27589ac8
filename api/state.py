"""What every request of one API process shares."""

import secrets
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request

from api.events.feed import Feeds
from api.limits.gcra import Rates
from api.measured import LatestCensus, Measured
from api.metrics.cache import Answers
from api.sign_in.id_tokens import IdTokens
from store import doorbell, schema
from store.artifacts import Artifacts
from store.database import Database
from store.secret import server_secret
from store.settings import Settings

POOL_SIZE = 10
"""Connections kept; as many again are opened when they are needed."""

INSPECTIONS_AT_ONCE = 2
"""Uploads inspected at the same time, so that the other routes keep their share of the machine."""

EARLY_INSPECTIONS_AT_ONCE = 8
"""Uploads inspected while they arrive: no faster than their clients send."""
METRICS_CACHE_BYTES = 64 * 2**20
"""Answers about metrics that are kept, to be given again."""


class ApiState:
    """The settings, and the handles made from them. One per application."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.policy = settings.policy
        self.database_url = settings.require_database_url()
        # A second more than the request has, so that whoever waits is told the one thing and not by chance the other.
        self.database = Database(
            self.database_url, pool_size=POOL_SIZE, for_tenants=True, statement_seconds=settings.request_seconds + 1
        )
        # For what is no tenant's: the sweeper, and whoever delivers to webhooks.
        self.platform = Database(self.database_url, pool_size=2)
        self.secret = server_secret(settings)
        self.id_tokens = _id_tokens(settings)
        self.rates = Rates(None if settings.broker_url is None else settings.broker_url.get_secret_value())
        self.schema_version = schema.head()
        self.artifacts = Artifacts(settings.artifacts)
        self.feeds = Feeds()
        self.answers = Answers(METRICS_CACHE_BYTES)
        self.measured = Measured()
        self.census = LatestCensus(self.platform)
        self.started = secrets.token_hex(8)
        """Another one for every process."""
        self.inspections = CapacityLimiter(INSPECTIONS_AT_ONCE)
        self.early_inspections = CapacityLimiter(EARLY_INSPECTIONS_AT_ONCE)

    def ring(self) -> None:
        """Tell the workers that there is work; a broker that is away, or none, is no error (see store.doorbell)."""
        if self.settings.broker_url is not None:
            doorbell.ring(self.settings.broker_url.get_secret_value())


def _id_tokens(settings: Settings) -> IdTokens | None:
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    return IdTokens(settings.oidc_issuer, settings.oidc_client_id, settings.oidc_claim)


# `async`, as every dependency that waits for nothing: FastAPI takes others to a thread and back.
async def _state(request: Request) -> ApiState:
    return cast(ApiState, request.app.state.api)


State = Annotated[ApiState, Depends(_state)]
