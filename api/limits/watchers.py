"""How many event streams one key may hold open at this process: 429 for one more (plain ASGI middleware).

Counted by what is answered, so that every route that streams is counted, also one that is added later.
"""

from collections import Counter

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.audit.trail import trail_of
from api.problems import Problem, respond

RETRY_AFTER_SECONDS = 30


class WatcherLimit:
    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watcher: str | None = None
        refused = False

        async def send_if_counted(message: Message) -> None:
            nonlocal watcher, refused
            if refused:
                return
            if message["type"] == "http.response.start" and _streams(message):
                identity = trail_of(scope).identity
                key_id = "" if identity is None else identity.key_id
                if self._open[key_id] >= self._most:
                    refused = True
                    await respond(Request(scope), self._too_many())(scope, receive, send)
                    # As if the reader had gone: the stream ends and lets go of what it holds.
                    raise ClientDisconnect
                watcher = key_id
                self._open[watcher] += 1
            await send(message)

        try:
            await self._app(scope, receive, send_if_counted)
        except ClientDisconnect:
            if not refused:
                raise
        finally:
            if watcher is not None:
                self._open[watcher] -= 1
                if not self._open[watcher]:
                    del self._open[watcher]

    def _too_many(self) -> Problem:
        return Problem(
            429,
            "too-many-watchers",
            f"this key holds {self._most} event streams open already, the most it may (ASYM_WATCHERS_PER_KEY)",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


def _streams(message: Message) -> bool:
    kind = Headers(raw=message.get("headers", [])).get("content-type", "")
    return int(message["status"]) == 200 and kind.startswith("text/event-stream")
