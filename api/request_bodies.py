"""Bounds on what a request may send, and the courtesy of reading it before it is refused (plain ASGI middleware)."""

import asyncio

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAINED_BYTES = 64 * 2**20
DRAIN_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""A sender of whom nothing comes for so long is answered 408."""


class BodyBounds:
    """413 for a body over `limit(path)` bytes; and a refusal reaches the client though it is still sending.

    A server that answers and closes while a body is on its way makes the client's system drop the answer, so that a
    wrong key on a large upload would look like a broken connection. Therefore what is left of the body of a refused
    request is read and thrown away, within bounds.
    """

    def __init__(self, app: ASGIApp, *, limits: dict[str, int], default: int) -> None:
        self._app = app
        self._limits = limits
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._default)
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"")
        received = 0
        whole = False

        async def counted() -> Message:
            nonlocal received, whole
            if announced.isdigit() and int(announced) > limit:
                raise _too_large(limit)
            # When the body is there, what comes next is the client's leaving, which may take as long as it likes.
            try:
                async with asyncio.timeout(None if whole else SILENCE_SECONDS):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"no more of the body came within {SILENCE_SECONDS:g} s") from None
            received += len(message.get("body", b""))
            whole = whole or message["type"] == "http.disconnect" or not message.get("more_body", False)
            if received > limit:
                raise _too_large(limit)
            return message

        async def drain() -> None:
            nonlocal whole
            left = DRAINED_BYTES
            while not whole and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                whole = message["type"] == "http.disconnect" or not message.get("more_body", False)

        async def send_once_read(message: Message) -> None:
            refused = message["type"] == "http.response.start" and message["status"] >= 400
            # Who waits for a "100 Continue" has not begun to send.
            if refused and not whole and b"expect" not in headers:
                try:
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await drain()
                except TimeoutError:
                    pass  # too slow to wait for; the connection ends with the answer
            await send(message)

        await self._app(scope, counted, send_once_read)


def _too_large(limit: int) -> HTTPException:
    # FastAPI lets an HTTPException out of the reading of a body, and no other error.
    return HTTPException(413, f"the request's body may have at most {limit} bytes")
