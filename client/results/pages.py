"""Lists, a page at a time."""

from typing import Generic, TypedDict, TypeVar

Item = TypeVar("Item")


class Page(TypedDict, Generic[Item]):
    data: list[Item]
    has_more: bool
    next: str | int | None
    """What to pass as `after` for the next page; None when there is none."""
