"""A request that takes too long is answered 504, and its connection is free again (plain ASGI middleware).

What it does in a thread goes on until the database stops it, which it does after as long (`statement_timeout`); nothing
of it is undone or sent. Uploads take as long as they take (a sender that falls silent is api.request_bodies's), and so
do event streams; and once an answer has begun, it may be as long as it is.
"""

import asyncio
import logging

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, respond

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
SAMPLING = frozenset({"/v1/chat/completions", "/v1/completions"})
"""They have a time of their own (ASYM_SAMPLER_REQUEST_SECONDS), and wait for a sampler and not for the database."""


class RequestTimeouts:
    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _may_take_its_time(scope):
            await self._app(scope, receive, send)
            return
        begun = given_up = False

        async def send_in_time(message: Message) -> None:
            nonlocal begun
            if not given_up:
                begun = True
                await send(message)

        task = asyncio.ensure_future(self._app(scope, receive, send_in_time))
        try:
            await asyncio.wait([task], timeout=self._seconds)
            if not task.done() and not begun:
                given_up = True
                self._late.add(task)
                task.add_done_callback(self._ended_late)
                logger.warning("%s %s took longer than %g s", scope["method"], scope["path"], self._seconds)
                await respond(Request(scope), self._too_late())(scope, receive, send)
                return
            await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    def _ended_late(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a request that had been given up failed: %s", type(error).__name__)

    def _too_late(self) -> Problem:
        return Problem(
            504,
            "timeout",
            f"no answer within {self._seconds:g} s; a write may have been done all the same: look before you repeat it",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


def _may_take_its_time(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    if scope["path"] in SAMPLING:
        return True
    return "text/event-stream" in headers.get("accept", "") or headers.get("content-type", "").startswith("multipart/")
