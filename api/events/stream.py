"""Server-sent events on the wire: how a message is written, and a response that lets go of readers who do not read."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

HEARTBEAT = b": keep-alive\n\n"
HEARTBEAT_SECONDS = 15.0

SEND_SECONDS = 30.0
"""A reader whose connection takes no byte for so long is dropped; it may come back with Last-Event-ID."""


def message(data: Mapping[str, Any], *, event: str, event_id: int | None = None) -> bytes:
    """One message. JSON escapes line breaks, so `data` is always a single line."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class EventStreamResponse(StreamingResponse):
    media_type = "text/event-stream"

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
