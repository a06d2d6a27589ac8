# Generated from client/_async/calls.py by `./dev sdk`; edit it there.
"""What the routes of every domain stand on: the connection, and lists that are read page by page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from client._sync.transport import Transport

PAGE = 100
"""How many objects one request of an iterator asks for."""


class Calls:
    """Requests over one connection, which whoever is at the end of the inheritance makes."""

    _transport: Transport

    def _all(self, path: str, params: Mapping[str, Any], limit: int | None) -> Iterator[Any]:
        """Every object of a list, page by page, at most `limit` of them."""
        after: str | int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = self._transport.json("GET", path, params={**params, "limit": size, "after": after})
            for each in page["data"]:
                yield each
            after = page.get("next")
            if not page.get("has_more") or after is None:
                return
            if left is not None:
                left -= len(page["data"])

    def _listed(self, path: str, params: Mapping[str, Any], limit: int | None = None) -> list[Any]:
        """The same, at once."""
        found = []
        for each in self._all(path, params, limit):
            found.append(each)
        return found


def joined(names: Sequence[str] | None) -> str | None:
    """As the API takes lists of names."""
    return ",".join(names) if names else None
