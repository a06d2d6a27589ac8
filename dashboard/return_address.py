"""Back to the page that was asked for, after signing in (or out) at an identity provider.

Streamlit always comes back to its first page. Whoever leaves for the provider says by the Referer from which page; that
is kept in a cookie of this browser meanwhile. Only pages of ours are gone back to, whatever a cookie or a Referer says.
"""

from typing import Final
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.places import PLACES

COOKIE: Final = "asym_return_address"
LASTS: Final = 1800
"""Seconds that one may take at the provider."""
LONGEST: Final = 3800
"""Characters: browsers keep cookies of 4096 bytes. A longer address is not kept."""
LEAVING, BACK = ("/auth/login", "/auth/logout"), ("/auth/logout", "/oauth2callback")
FIRST_PAGE: Final = "/"


class ReturnAddress:
    """Around the dashboard's ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (*LEAVING, *BACK):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        asked = page_of(request.headers.get("referer", "")) if scope["path"] in LEAVING else None
        kept = asked or page_of(unquote(request.cookies.get(COOKIE, "")))

        async def send_back(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if scope["path"] in BACK and headers.get("location") == FIRST_PAGE:
                    if kept is not None:
                        headers["location"] = kept
                    headers.append("set-cookie", _cookie("", 0))
                elif asked is not None:
                    headers.append("set-cookie", _cookie(quote(asked, safe=""), LASTS))
            await send(message)

        await self.app(scope, receive, send_back)


def page_of(address: str) -> str | None:
    """Path and query of an address, if that is a page of ours."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.path.removeprefix("/") not in ("", *PLACES):
        return None
    page = f"/{parts.path.removeprefix('/')}" + (f"?{parts.query}" if parts.query else "")
    return page if page != FIRST_PAGE and page.isascii() and len(quote(page, safe="")) <= LONGEST else None


def _cookie(value: str, seconds: int) -> str:
    response = Response()
    response.set_cookie(COOKIE, value, max_age=seconds, httponly=True, samesite="lax")
    return response.headers["set-cookie"]
