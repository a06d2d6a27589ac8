"""Server-sent events on the wire: how a message is written, and a response that lets go of readers who do not read."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Header
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.paging import BIGGEST_ID
from api.problems import invalid

Accept = Annotated[str, Header(include_in_schema=False)]
LastEventId = Annotated[
    str | None, Header(description="Of a stream that broke off: go on after this message (instead of `after`).")
]

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": keep-alive\n\n"
HEARTBEAT_SECONDS = 15.0

SEND_SECONDS = 30.0
"""A reader whose connection takes no byte for so long is dropped; it may come back with Last-Event-ID."""


def message(data: Mapping[str, Any], *, event: str, event_id: int | None = None) -> bytes:
    """One message. JSON escapes line breaks, so `data` is always a single line."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def resumed_at(last_event_id: str | None, after: int) -> int:
    """Where a stream begins: after the Last-Event-ID that a client sends when it comes back, else after `after`."""
    if not last_event_id:
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit() or int(last_event_id) > BIGGEST_ID:
        raise invalid(["header", "last-event-id"], "not the id of a message")
    return int(last_event_id)


def described(items: str, example: str) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a list that is also streamed: of `items`, of which a message looks like `example`."""
    return {
        200: {
            "description": f"The page; or, with `Accept: text/event-stream`, the {items} as they come. Each message "
            "has its id; `event: end` follows the last of a job that has ended.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": f'{example}\n\nevent: end\ndata: {{"status":"succeeded"}}\n\n',
                }
            },
        }
    }


class EventStreamResponse(StreamingResponse):
    media_type = MEDIA_TYPE

    def __init__(self, messages: AsyncGenerator[bytes, None]) -> None:
        # Buffering proxies would keep the events to themselves.
        super().__init__(messages, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_drop(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        async with aclosing(self._messages):
            try:
                await super().__call__(scope, receive, send_or_drop)
            except (TimeoutError, ClientDisconnect):
                return  # gone, or as good as gone
