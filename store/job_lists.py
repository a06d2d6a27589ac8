"""Jobs in lists: which, in what order, from where on. Every filter and every order stands on an index of the table.

A cursor carries the last row's place in the order and not only its id, so that a job that is renamed or deleted between
two pages moves none of the others.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnClause, Select, Text, cast, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session, undefer

from store import job_words
from store.access import Identity, of_team
from store.errors import Invalid, NotFound
from store.ids import first_id
from store.jobs import WITHOUT_SPEC
from store.models import Job
from store.status import JobStatus

_CLOCKS_DIFFER = timedelta(days=1)
"""Ids are made by the clocks of the API's machines, `created_at` by the database's: they agree to within this."""

ROW_VERSION: ColumnClause[str] = literal_column("jobs.xmin::text")
"""The transaction that last wrote the row: another one after every change, whoever makes it."""


class Sort(StrEnum):
    """Orders; a minus is descending. `finished` lists only jobs that have ended."""

    NEWEST = "-created"
    OLDEST = "created"
    NAME = "name"
    NAME_DOWN = "-name"
    STATUS = "status"
    STATUS_DOWN = "-status"
    FINISHED_FIRST = "finished"
    FINISHED_LAST = "-finished"

    @property
    def descends(self) -> bool:
        return self.value.startswith("-")

    @property
    def column(self) -> InstrumentedAttribute[Any] | None:
        """What is sorted by before the id; None: by nothing else."""
        columns = {"name": Job.name, "status": Job.status, "finished": Job.finished_at}
        return columns.get(self.value.removeprefix("-"))


@dataclass(frozen=True)
class Filter:
    """Which jobs: those that meet everything that is given."""

    status: Sequence[JobStatus] = ()
    """Any of them."""
    tags: Sequence[str] = ()
    """All of them."""
    owner: str | None = None
    """The id of the key that made it."""
    team: str | None = None
    text: str | None = None
    """Words that those of its name and notes begin with."""
    model: str | None = None
    preset: str | None = None
    created_after: datetime | None = None
    """Inclusive; `created_before` is not."""
    created_before: datetime | None = None
    facade: dict[str, Any] | None = None
    """A part of what a request in OpenAI's shape said beyond the spec."""


@dataclass(frozen=True)
class Listed:
    """A job of a list and the version of its row."""

    job: Job
    version: str


def read(
    session: Session,
    identity: Identity,
    wanted: Filter,
    sort: Sort,
    limit: int,
    after: str | None = None,
    *,
    whole: bool = False,
) -> list[Listed]:
    """At most `limit` jobs behind the cursor `after`. NotFound for another team; Invalid for no cursor of this order.

    whole: with `spec` and `facade`.
    """
    options = [undefer(Job.facade)] if whole else [WITHOUT_SPEC]
    statement = _select(identity, wanted, sort, limit, after).add_columns(Job).options(*options)
    return [Listed(job, version) for _, version, job in session.execute(statement)]


def versions(
    session: Session, identity: Identity, wanted: Filter, sort: Sort, limit: int, after: str | None = None
) -> list[tuple[str, str]]:
    """(id, version) of what `read` would give, for a fraction of its cost."""
    return [(id, version) for id, version in session.execute(_select(identity, wanted, sort, limit, after))]


class JobVersion(NamedTuple):
    edits: int
    row: str
    queued: bool


def version(session: Session, identity: Identity, job_id: str) -> JobVersion:
    """Of one job, without reading it whole. NotFound when the team has none of this id."""
    if not job_id.isascii() or "\0" in job_id:
        raise NotFound("job", job_id)
    statement = select(Job.edits, ROW_VERSION, Job.status).where(Job.id == job_id, of_team(identity, Job))
    found = session.execute(statement).one_or_none()
    if found is None:
        raise NotFound("job", job_id)
    edits, row, status = found
    return JobVersion(edits, row, status is JobStatus.QUEUED)


def cursor(sort: Sort, job: Job) -> str:
    """The place of a job in this order, for `after`."""
    if sort.column is None:
        return job.id
    value = getattr(job, sort.column.key)
    place = json.dumps([value.isoformat() if isinstance(value, datetime) else value, job.id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _select(identity: Identity, wanted: Filter, sort: Sort, limit: int, after: str | None) -> Select[str, str]:
    if wanted.team is not None and wanted.team != identity.team_id:
        raise NotFound("team", wanted.team)
    statement = select(Job.id, ROW_VERSION).where(of_team(identity, Job)).limit(limit)
    place: Any = Job.id if sort.column is None else tuple_(sort.column, Job.id)
    if after is not None:
        behind = after if sort.column is None else tuple_(*_place(sort, after))
        statement = statement.where(place < behind if sort.descends else place > behind)
    order = [Job.id] if sort.column is None else [sort.column, Job.id]
    statement = statement.order_by(*(each.desc() if sort.descends else each for each in order))
    if sort.column is Job.finished_at:
        statement = statement.where(Job.finished_at.is_not(None))
    return _filtered(statement, wanted)


def _filtered(statement: Select[str, str], wanted: Filter) -> Select[str, str]:
    if len(wanted.status) == 1:
        statement = statement.where(Job.status == wanted.status[0])
    elif wanted.status:
        statement = statement.where(Job.status.in_(wanted.status))
    if wanted.tags:
        statement = statement.where(Job.tags.op("@>")(cast(list(wanted.tags), ARRAY(Text))))
    if wanted.text is not None and job_words.of(wanted.text):
        statement = statement.where(job_words.found_by(wanted.text))
    for column, value in ((Job.created_by, wanted.owner), (Job.model, wanted.model), (Job.preset, wanted.preset)):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.facade is not None:
        statement = statement.where(Job.facade.contains(wanted.facade))
    if wanted.created_after is not None:
        earliest = first_id("job", _shifted(wanted.created_after, -_CLOCKS_DIFFER))
        statement = statement.where(Job.created_at >= wanted.created_after, Job.id >= earliest)
    if wanted.created_before is not None:
        latest = first_id("job", _shifted(wanted.created_before, _CLOCKS_DIFFER))
        statement = statement.where(Job.created_at < wanted.created_before, Job.id < latest)
    return statement


def _shifted(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:  # the year 1, or 9999
        return moment


def _place(sort: Sort, after: str) -> tuple[object, str]:
    try:
        decoded = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        value, id = json.loads(decoded)
        if not isinstance(value, str) or not isinstance(id, str) or "\0" in value + id:
            raise ValueError("not a place")
        (value + id).encode()  # a lone surrogate, which no text of ours holds
        if sort.column is Job.finished_at:
            return datetime.fromisoformat(value), id
        return (JobStatus(value) if sort.column is Job.status else value), id
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise Invalid([{"loc": ["query", "after"], "msg": "not a `next` of this list in this order"}]) from None
