# Generated from client/_async/event_stream.py by `./dev sdk`; edit it there.
"""A job's events and log as they come: server-sent events, taken up where they broke off until the job has ended."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from httpx_sse import EventSource, ServerSentEvent

from client._sync.transport import Transport
from client.errors import AsymError
from client.results import JobEvent, LogLine, MetricRow, MetricsTakenBack
from client.retries import is_passing

SILENCE_SECONDS = 60.0
"""Without even a keep-alive for so long, the connection counts as dead."""
RECONNECT_SECONDS = 1.0
"""Between connections, so that a server that closes at once is not hammered."""
PATIENCE_SECONDS = 60.0
"""How long the API may stay away before the stream gives up."""


def stream_events(transport: Transport, job_id: str, after: int) -> Iterator[JobEvent]:
    """Yield the job's events with ids above `after`, each once, in order; end when the job has ended and all is told.

    AsymError when the job is not there; Unreachable when the API stays away for a minute.
    """
    for _, _, told in _stream(transport, f"/jobs/{job_id}/events", str(after)):
        yield told


def stream_logs(transport: Transport, job_id: str, after: int) -> Iterator[LogLine]:
    """The same for the lines of its log."""
    for _, _, told in _stream(transport, f"/jobs/{job_id}/logs", str(after)):
        yield told


def stream_metrics(
    transport: Transport, job_id: str, keys: str | None, since: str | None
) -> Iterator[MetricRow | MetricsTakenBack]:
    """Yield what was written of the job's metrics after the cursor `since`, or from now on, until the job has ended."""
    for kind, cursor, told in _stream(transport, f"/jobs/{job_id}/metrics", since, {"keys": keys}):
        if kind != "start":  # which has a cursor alone
            yield cast(MetricRow | MetricsTakenBack, {**told, "cursor": cursor})


def _stream(
    transport: Transport, path: str, last: str | None, params: Mapping[str, str | None] | None = None
) -> Iterator[tuple[str, str, Any]]:
    """(event, id, decoded data) of every message behind the one with the id `last`.

    AsymError when the job is not there; Unreachable when the API stays away for a minute.
    """
    clock = transport.clock
    away_since: float | None = None
    while True:
        try:
            with _connection(transport, path, last, params) as messages:
                for message in messages:
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
            clock.sleep(min(error.retry_after or 0.0, PATIENCE_SECONDS))
        clock.sleep(RECONNECT_SECONDS)


@contextmanager
def _connection(
    transport: Transport, path: str, last: str | None, params: Mapping[str, str | None] | None
) -> Iterator[Iterator[ServerSentEvent]]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last is not None:
        headers["Last-Event-ID"] = last
    with transport.stream(path, headers=headers, params=params, read_timeout=SILENCE_SECONDS) as response:
        yield EventSource(response).iter_sse()
