"""What the routes of every domain stand on: the connection, and lists that are read page by page."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from client._async.transport import AsyncTransport

PAGE = 100
"""How many objects one request of an iterator asks for."""


class AsyncCalls:
    """Requests over one connection, which whoever is at the end of the inheritance makes."""

    _transport: AsyncTransport

    async def _all(self, path: str, params: Mapping[str, Any], limit: int | None) -> AsyncIterator[Any]:
        """Every object of a list, page by page, at most `limit` of them."""
        after: str | int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await self._transport.json("GET", path, params={**params, "limit": size, "after": after})
            for each in page["data"]:
                yield each
            after = page.get("next")
            if not page.get("has_more") or after is None:
                return
            if left is not None:
                left -= len(page["data"])

    async def _listed(self, path: str, params: Mapping[str, Any], limit: int | None = None) -> list[Any]:
        """The same, at once."""
        found = []
        async for each in self._all(path, params, limit):
            found.append(each)
        return found


def joined(names: Sequence[str] | None) -> str | None:
    """As the API takes lists of names."""
    return ",".join(names) if names else None
