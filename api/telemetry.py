"""GET /metrics for Prometheus: what this process counts, and how the platform stands. No name or id of anybody's.

It tells about all teams together, so no team's key opens it: a token of the operator's does (ASYM_METRICS_TOKEN).
Without a token set, only a request from this machine that came through no proxy is answered.
"""

import hmac
import ipaddress
import time
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.openapi import problem_content
from api.problems import Problem
from api.state import ApiState, State

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""With any of these headers a request came through a proxy, and nobody knows from where."""

router = APIRouter(tags=["platform"])

_token = HTTPBearer(auto_error=False, scheme_name="MetricsToken", description="The operator's ASYM_METRICS_TOKEN.")


class Telemetry:
    """Counts every request by its route, and times it up to the beginning of its answer (plain ASGI middleware)."""

    def __init__(self, app: ASGIApp, *, state: ApiState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            # It becomes a 500 further out.
            self._note(scope, 500, time.perf_counter() - began)
            raise

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope["method"] if route != "(none)" else "(any)"  # what nobody serves may be called anything
        measured = self._state.measured
        measured.requests.labels(method, route, str(status)).inc()
        measured.latency.labels(method, route).observe(seconds)
        if method not in ("GET", "HEAD") and status < 400:
            # Whoever made this change sees it in what they ask next, also before the database has announced it.
            self._state.feeds.heard += 1


class _Collected:
    """One scrape as prometheus_client wants it: what the process counted, then how things stand."""

    def __init__(self, state: ApiState) -> None:
        self._state = state
        self._census = state.census.latest()

    def collect(self) -> Iterable[Metric]:
        yield from self._state.measured.registry.collect()
        yield GaugeMetricFamily("asym_streams_open", "Event streams of this process.", self._state.feeds.streams)
        jobs = GaugeMetricFamily("asym_jobs", "Jobs of all teams.", labels=["status"])
        for status, count in self._census.jobs.items():
            jobs.add_metric([status], count)
        yield jobs
        yield GaugeMetricFamily("asym_queue_depth", "Jobs that wait.", self._census.jobs["queued"])
        waited = GaugeMetricFamily("asym_queue_oldest_seconds", "How long the first of them has waited.")
        waited.add_metric([], self._census.oldest_wait_seconds)
        yield waited
        workers = GaugeMetricFamily("asym_workers", "Workers that have not stopped.", labels=["state"])
        for state, count in self._census.workers.items():
            workers.add_metric([state], count)
        yield workers
        yield GaugeMetricFamily(
            "asym_webhook_deliveries_pending",
            "What webhooks are still to be told.",
            self._census.webhook_deliveries,
        )


def _may_look(
    request: Request, state: State, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_token)]
) -> None:
    token = state.settings.metrics_token
    if token is not None:
        given = credentials.credentials if credentials is not None else ""
        if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
            raise Problem(401, "unauthorized", "send the metrics token", headers={"WWW-Authenticate": "Bearer"})
    elif not _is_local(request):
        raise Problem(
            401,
            "unauthorized",
            "only this machine may ask, unless the operator sets ASYM_METRICS_TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:  # a unix socket, or a test's name
        return False


@router.get(
    "/metrics",
    dependencies=[Depends(_may_look)],
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": 'asym_jobs{status="running"} 4.0\n'}},
        },
        401: {"description": "Not the operator's token, or not from this machine.", "content": problem_content()},
        503: {"description": "The database does not answer.", "content": problem_content()},
    },
)
def get_telemetry(state: State) -> Response:
    """Requests, latency, streams, jobs by status, the queue and the workers, for Prometheus."""
    return Response(generate_latest(_Collected(state)), media_type=CONTENT_TYPE_LATEST)
