"""Streamlit's own scripts and styles from memory: a browser that was never here asks for a hundred of them at first.

Served from the disk each costs several hops between threads. Their names hold a hash of what is in them, so a browser
keeps them for good. Everything else is Streamlit's to answer.
"""

import mimetypes
from pathlib import Path
from typing import Final

import streamlit
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER: Final = Path(streamlit.__file__).parent / "static"
PREFIX: Final = "/static/"
KEEP: Final = "public, immutable, max-age=31536000"


class KeptAssets:
    """Around the dashboard's ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._files = {f"/{path.relative_to(FOLDER).as_posix()}": path for path in FOLDER.rglob("*") if path.is_file()}
        self._kept: dict[str, tuple[bytes, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not self._ours(scope):
            await self.app(scope, receive, send)
            return
        content, kind = self._read(scope["path"])
        await Response(content, media_type=kind, headers={"Cache-Control": KEEP})(scope, receive, send)

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
