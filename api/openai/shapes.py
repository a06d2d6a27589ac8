"""What all of the OpenAI-compatible routes share: lists, metadata, and times in seconds since 1970."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query, Request
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

Item = TypeVar("Item")
Row = TypeVar("Row")

MOST = 100
Limit = Annotated[int, Query(ge=1, le=MOST, description="At most so many objects.")]
After = Annotated[str | None, Query(max_length=128, description="The id of the last object of the page before.")]


def storable(text: str) -> str:
    """ValueError for the one character that Postgres cannot hold."""
    if "\0" in text:
        raise ValueError("holds the character U+0000")
    return text


Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(storable)],
        Annotated[str, StringConstraints(max_length=512), AfterValidator(storable)],
    ],
    Field(max_length=16),
]

_METADATA = re.compile(r"metadata\[(.{1,64})\]")


class ObjectList(BaseModel, Generic[Item]):
    """One page, newest first."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


def object_list(
    rows: Sequence[Row], limit: int, shape: Callable[[Row], Item], id_of: Callable[[Item], str]
) -> ObjectList[Item]:
    """A page of `limit` out of rows read with a limit of one more."""
    data = [shape(row) for row in rows[:limit]]
    return ObjectList(
        data=data,
        first_id=id_of(data[0]) if data else None,
        last_id=id_of(data[-1]) if data else None,
        has_more=len(rows) > limit,
    )


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def metadata_filter(request: Request) -> dict[str, str]:
    """Of `?metadata[KEY]=VALUE`, as the official client writes it."""
    return {
        found[1]: value
        for name, value in request.query_params.multi_items()
        if (found := _METADATA.fullmatch(name)) is not None
    }
