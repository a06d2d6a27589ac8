"""A job's events and log as they come: server-sent events, taken up where they broke off until the job has ended."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from httpx_sse import EventSource, ServerSentEvent

from client._async.transport import AsyncTransport
from client.errors import AsymError
from client.results import JobEvent, LogLine, MetricRow, MetricsTakenBack
from client.retries import is_passing

SILENCE_SECONDS = 60.0
"""Without even a keep-alive for so long, the connection counts as dead."""
RECONNECT_SECONDS = 1.0
"""Between connections, so that a server that closes at once is not hammered."""
PATIENCE_SECONDS = 60.0
"""How long the API may stay away before the stream gives up."""


async def stream_events(transport: AsyncTransport, job_id: str, after: int) -> AsyncIterator[JobEvent]:
    """Yield the job's events with ids above `after`, each once, in order; end when the job has ended and all is told.

    AsymError when the job is not there; Unreachable when the API stays away for a minute.
    """
    async for _, _, told in _stream(transport, f"/jobs/{job_id}/events", str(after)):
        yield told


async def stream_logs(transport: AsyncTransport, job_id: str, after: int) -> AsyncIterator[LogLine]:
    """The same for the lines of its log."""
    async for _, _, told in _stream(transport, f"/jobs/{job_id}/logs", str(after)):
        yield told


async def stream_metrics(
    transport: AsyncTransport, job_id: str, keys: str | None, since: str | None
) -> AsyncIterator[MetricRow | MetricsTakenBack]:
    """Yield what was written of the job's metrics after the cursor `since`, or from now on, until the job has ended."""
    async for kind, cursor, told in _stream(transport, f"/jobs/{job_id}/metrics", since, {"keys": keys}):
        if kind != "start":  # which has a cursor alone
            yield cast(MetricRow | MetricsTakenBack, {**told, "cursor": cursor})


async def _stream(
    transport: AsyncTransport, path: str, last: str | None, params: Mapping[str, str | None] | None = None
) -> AsyncIterator[tuple[str, str, Any]]:
    """(event, id, decoded data) of every message behind the one with the id `last`.

    AsymError when the job is not there; Unreachable when the API stays away for a minute.
    """
    clock = transport.clock
    away_since: float | None = None
    while True:
        try:
            async with _connection(transport, path, last, params) as messages:
                async for message in messages:
                    away_since = None
                    if message.event == "end":
                        return
                    if not message.data:
                        continue  # a keep-alive behind a message with an id: httpx-sse shows it as an empty one
                    last = message.id
                    yield message.event, last, json.loads(message.data)
        except AsymError as error:
            if not is_passing(error):
                raise
            away_since = away_since or clock.monotonic()
            if clock.monotonic() - away_since > PATIENCE_SECONDS:
                raise
            await clock.sleep(min(error.retry_after or 0.0, PATIENCE_SECONDS))
        await clock.sleep(RECONNECT_SECONDS)


@asynccontextmanager
async def _connection(
    transport: AsyncTransport, path: str, last: str | None, params: Mapping[str, str | None] | None
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last is not None:
        headers["Last-Event-ID"] = last
    async with transport.stream(path, headers=headers, params=params, read_timeout=SILENCE_SECONDS) as response:
        yield EventSource(response).aiter_sse()
