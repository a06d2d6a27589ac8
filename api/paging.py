"""Lists are read page by page: `?limit=&after=` -> `{data, has_more, next}`."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item")
Row = TypeVar("Row")

MAX_LIMIT = 1000
BIGGEST_ID = 2**63 - 1

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="At most so many objects.")]
After = Annotated[str | None, Query(max_length=64, description="`next` of the page before.")]
AfterNumber = Annotated[int, Query(ge=0, le=BIGGEST_ID, description="`next` of the page before.")]


class Page(BaseModel, Generic[Item]):
    """One page of a list, in the list's order."""

    data: list[Item]
    has_more: bool
    next: str | int | None
    """What to pass as `after` for the next page; null when this is the last."""


def page(
    rows: Sequence[Row], limit: int, shape: Callable[[Row], Item], position: Callable[[Row], str | int]
) -> Page[Item]:
    """A page of `limit` out of rows read with a limit of one more, which tells whether there is another page."""
    shown = rows[:limit]
    has_more = len(rows) > limit
    return Page(
        data=[shape(row) for row in shown], has_more=has_more, next=position(shown[-1]) if has_more and shown else None
    )
