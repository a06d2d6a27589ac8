"""Headers that every answer bears, so that browsers and caches make nothing else of it (plain ASGI middleware)."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NO_PAGE = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
"""Of what is no page and runs no script: everything but the reference."""
_PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})


class ResponseHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (_ALWAYS if scope["path"] in _PAGES else {**_ALWAYS, **_NO_PAGE}).items():
                    headers.setdefault(name, value)
                # What has an ETag may be kept by its reader, if it asks each time; the rest by nobody.
                headers.setdefault("Cache-Control", "private, no-cache" if "etag" in headers else "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)
