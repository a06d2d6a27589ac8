"""Streamlit's own scripts and styles from memory: a browser that was never here asks for a hundred of them at first.

Served from the disk each costs several hops between threads. Their names hold a hash of what is in them, so a browser
keeps them for good. Everything else is Streamlit's to answer; with a page goes which scripts all of our pages need
beside those that it names: Streamlit's own code finds that out when it has run and connected.
"""

import mimetypes
import re
from pathlib import Path
from typing import Final

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER: Final = Path(streamlit.__file__).parent / "static"
PREFIX: Final = "/static/"
KEEP: Final = "public, immutable, max-age=31536000"
ON_EVERY_PAGE: Final = ("Html", "BidiComponent")
"""Streamlit's scripts for the elements that every page of ours begins with: our styles, our charts."""
_IMPORT: Final = re.compile(r"""(?:from|import)\s*["'`]\./([\w.-]+\.js)["'`]""")


class KeptAssets:
    """Around the dashboard's ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._files = {f"/{path.relative_to(FOLDER).as_posix()}": path for path in FOLDER.rglob("*") if path.is_file()}
        self._kept: dict[str, tuple[bytes, str]] = {}
        self._preload = ", ".join(f'<{path}>; rel="modulepreload"; crossorigin' for path in needed_later())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not self._ours(scope):
            await self.app(scope, receive, self._telling(send))
            return
        content, kind = self._read(scope["path"])
        await Response(content, media_type=kind, headers={"Cache-Control": KEEP})(scope, receive, send)

    def _telling(self, send: Send) -> Send:
        """As `send`, with the scripts to load beside a page."""

        async def told(message: Message) -> None:
            if self._preload and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("link", self._preload)
            await send(message)

        return told

    def _ours(self, scope: Scope) -> bool:
        """By a list of the files there are: no path of a request reaches the disk."""
        path: str = scope["path"]
        headers = Headers(scope=scope)
        return path.startswith(PREFIX) and path in self._files and not {"range", "if-none-match"} & set(headers)

    def _read(self, path: str) -> tuple[bytes, str]:
        if path not in self._kept:
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            self._kept[path] = (self._files[path].read_bytes(), kind)
        return self._kept[path]


def needed_later(folder: Path = FOLDER) -> list[str]:
    """Paths of the scripts of `ON_EVERY_PAGE`, and of what these import, that Streamlit's page does not name itself."""
    scripts = {path.name: path for path in (folder / "static" / "js").glob("*.js")}
    page = folder / "index.html"
    named = page.read_text("utf-8") if page.exists() else ""
    asked = [name for name in sorted(scripts) if name.partition(".")[0] in ON_EVERY_PAGE]
    found: list[str] = []
    while asked:
        name = asked.pop()
        if name in scripts and name not in found and name not in named:
            found.append(name)
            asked += _IMPORT.findall(scripts[name].read_text("utf-8"))
    return [f"{PREFIX}js/{name}" for name in found]
