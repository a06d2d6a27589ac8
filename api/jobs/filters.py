"""The query of GET /jobs as a filter of the store."""

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import BeforeValidator, StringConstraints

from store.job_lists import Filter
from store.status import JobStatus

_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


def _written_out(value: object) -> object:
    # pydantic would take a number for seconds since 1970, and a date for its midnight.
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("must be a date and a time, e.g. 2026-01-15T09:30:00Z")
    return value


Text = Annotated[str | None, Query(max_length=200)]
Moment = Annotated[
    datetime | None, BeforeValidator(_written_out), Query(description="RFC 3339; without an offset, UTC.")
]


async def filter_of(
    id: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_]{1,64}$")]] | None,
        Query(max_length=100, description="Any of these; repeat it for several. What is not there is left out."),
    ] = None,
    status: Annotated[list[JobStatus] | None, Query(description="Any of these; repeat it for several.")] = None,
    tag: Annotated[
        list[Annotated[str, StringConstraints(max_length=64)]] | None,
        Query(max_length=8, description="All of these; repeat it for several."),
    ] = None,
    owner: Annotated[str | None, Query(max_length=64, description="The id of the key that made them.")] = None,
    team: Annotated[str | None, Query(max_length=64, description="One's own: another team is a 404.")] = None,
    text: Annotated[
        str | None,
        Query(max_length=200, description="Words; each must begin a word of the job's name or notes."),
    ] = None,
    model: Text = None,
    preset: Text = None,
    created_after: Moment = None,
    created_before: Moment = None,
) -> Filter:
    """Of the parameters of a request."""
    return Filter(
        ids=tuple(dict.fromkeys(id or ())),
        status=tuple(dict.fromkeys(status or ())),
        tags=tuple(dict.fromkeys(tag or ())),
        owner=owner,
        team=team,
        text=text,
        model=model,
        preset=preset,
        created_after=_in_utc(created_after),
        created_before=_in_utc(created_before),
    )


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
