"""Every request has an id: its sender's `X-Request-ID`, or one that is made here. It comes back with the answer, stands
in problems and in the log, and with it in a request's trace (plain ASGI middleware, the outermost).
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from store import logs, tracing

HEADER = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Of a sender's; another one is replaced, for it goes into headers and logs."""
_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})


class RequestIds:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(HEADER, "")
        request_id = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        # To stay, for a bug's 500 is made outside of here. Each request is a task, with a context of its own.
        logs.bind(request=request_id)
        if tracing.is_on() and scope["path"] not in _UNTRACED:
            await self._traced(scope, receive, send, headers, request_id)
        else:
            await self._app(scope, receive, _with_id(send, request_id))

    async def _traced(self, scope: Scope, receive: Receive, send: Send, headers: Headers, request_id: str) -> None:
        method = scope["method"]
        with tracing.request(method, headers) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start" and span is not None:
                    route = getattr(scope.get("route"), "path", None)
                    span.set_attributes({"http.request.method": method, "asym.request.id": request_id})
                    span.set_attribute("http.response.status_code", message["status"])
                    if route is not None:
                        # Never the path itself, whose parts somebody has chosen.
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)
                await send(message)

            await self._app(scope, receive, _with_id(noted, request_id))


def _with_id(send: Send, request_id: str) -> Send:
    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault(HEADER, request_id)
        await send(message)

    return send_with_id
