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

from sqlalchemy import ColumnClause, ColumnElement, Select, literal_column, select, text, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, undefer

from store import job_words
from store.access import Identity, of_team
from store.errors import Invalid, NotFound
from store.ids import first_id
from store.jobs import WITHOUT_SPEC
from store.models import Job
from store.status import JobStatus

_NEAREST = 1000
"""Among how many jobs a search looks before it turns to the index."""
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


class Listed(NamedTuple):
    """A job in a list: which, and the version of its row."""

    id: str
    version: str


def find(
    session: Session, identity: Identity, wanted: Filter, sort: Sort, limit: int, after: str | None = None
) -> list[Listed]:
    """At most `limit` jobs behind the cursor `after`, in order; `read` fetches what is shown of them.

    NotFound for another team; Invalid for what is no cursor of this order.
    """
    if wanted.team is not None and wanted.team != identity.team_id:
        raise NotFound("team", wanted.team)
    line = _Line(identity, sort, after)
    page = _filtered(line.select(Job.id, ROW_VERSION), wanted).limit(limit)
    rare = _searches(wanted)
    if rare:
        # How common an entry is, Postgres guesses badly, and a bad guess reads every job of the team. So: first among
        # the nearest, where whatever is common fills a page; else through the index, since it is rare.
        nearest = session.execute(line.select(*line.columns).offset(_NEAREST - 1).limit(1)).one_or_none()
        if nearest is not None:
            found = session.execute(page.where(*rare, line.up_to(nearest))).all()
            if len(found) < limit:
                session.execute(text("SET LOCAL enable_seqscan = off"))
                found = session.execute(_sorted_last(line, wanted, rare).limit(limit)).all()
            return [Listed(*row) for row in found]
    return [Listed(*row) for row in session.execute(page.where(*rare))]


def read(session: Session, listed: Sequence[Listed], *, whole: bool = False) -> list[Job]:
    """What was found, in its order; without `spec`, unless whole: then with it and `facade`. Jobs that are gone since
    are left out."""
    options = [undefer(Job.facade)] if whole else [WITHOUT_SPEC]
    rows = session.scalars(select(Job).where(Job.id.in_([each.id for each in listed])).options(*options))
    jobs = {job.id: job for job in rows}
    return [jobs[each.id] for each in listed if each.id in jobs]


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


def _sorted_last(line: "_Line", wanted: Filter, rare: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    """Everything that is found, and only then its order, so that no index of the order is read in its place."""
    places = [column.label(f"place_{number}") for number, column in enumerate(line.columns)]
    unsorted = _filtered(line.select(Job.id, ROW_VERSION.label("version"), *places), wanted).where(*rare)
    found = unsorted.order_by(None).offset(0).subquery()
    return line.ordered(select(found.c.id, found.c.version), [found.c[place.name] for place in places])


class _Line:
    """A team's jobs in some order, behind some place."""

    def __init__(self, identity: Identity, sort: Sort, after: str | None) -> None:
        self._identity = identity
        self._sort = sort
        self._behind: Any = None
        if after is not None:
            self._behind = after if sort.column is None else tuple_(*_place(sort, after))
        self.columns: list[InstrumentedAttribute[Any]] = [Job.id] if sort.column is None else [sort.column, Job.id]
        """What it is ordered by."""
        self._at: Any = Job.id if sort.column is None else tuple_(*self.columns)

    def select(self, *columns: ColumnElement[Any] | InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
        statement = select(*columns).where(of_team(self._identity, Job))
        if self._behind is not None:
            descends = self._sort.descends
            statement = statement.where(self._at < self._behind if descends else self._at > self._behind)
        if self._sort.column is Job.finished_at:
            statement = statement.where(Job.finished_at.is_not(None))
        return self.ordered(statement, self.columns)

    def ordered(
        self, statement: Select[*tuple[Any, ...]], columns: Sequence[ColumnElement[Any] | InstrumentedAttribute[Any]]
    ) -> Select[*tuple[Any, ...]]:
        return statement.order_by(*(each.desc() if self._sort.descends else each for each in columns))

    def up_to(self, place: Sequence[Any]) -> ColumnElement[bool]:
        """The condition for what stands before this place, or at it. place: values of `columns`."""
        bound = place[0] if self._sort.column is None else tuple_(*place)
        found: ColumnElement[bool] = self._at >= bound if self._sort.descends else self._at <= bound
        return found


def _searches(wanted: Filter) -> list[ColumnElement[bool]]:
    """The conditions that no order of jobs helps with."""
    conditions = [job_words.holds(Job.tags, list(wanted.tags)), job_words.found_by(wanted.text or "")]
    if wanted.facade is not None:
        conditions.append(Job.facade.contains(wanted.facade))
    return [condition for condition in conditions if condition is not None]


def _filtered(statement: Select[*tuple[Any, ...]], wanted: Filter) -> Select[*tuple[Any, ...]]:
    if len(wanted.status) == 1:
        statement = statement.where(Job.status == wanted.status[0])
    elif wanted.status:
        statement = statement.where(Job.status.in_(wanted.status))
    for column, value in ((Job.created_by, wanted.owner), (Job.model, wanted.model), (Job.preset, wanted.preset)):
        if value is not None:
            statement = statement.where(column == value)
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
