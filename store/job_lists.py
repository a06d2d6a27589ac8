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

from sqlalchemy import (
    ARRAY,
    ColumnClause,
    ColumnElement,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, undefer

from store import job_words
from store.access import Identity, of_team
from store.errors import Invalid, NotFound
from store.ids import first_id
from store.jobs import WITHOUT_SPEC
from store.models import Job, Key
from store.status import JobStatus

_NEAREST = 1000
"""Among how many jobs a search looks before it turns to the index."""
_MANY = 5000
"""What finds more than so many is not rare, only far away: jobs are looked at in order until the page is full."""
_CLOCKS_DIFFER = timedelta(days=1)
"""Ids are made by the clocks of the API's machines, `created_at` by the database's: they agree to within this."""

ROW_VERSION: ColumnClause[str] = literal_column("jobs.xmin::text")
"""The transaction that last wrote the row: another one after every change, whoever makes it."""


class Sort(StrEnum):
    """Orders; a minus is descending. `finished`, `accuracy` and `gpu_seconds` list only jobs that have ended, and of
    those only what has the value."""

    NEWEST = "-created"
    OLDEST = "created"
    NAME = "name"
    NAME_DOWN = "-name"
    STATUS = "status"
    STATUS_DOWN = "-status"
    FINISHED_FIRST = "finished"
    FINISHED_LAST = "-finished"
    ACCURACY_UP = "accuracy"
    ACCURACY_DOWN = "-accuracy"
    GPU_SECONDS_UP = "gpu_seconds"
    GPU_SECONDS_DOWN = "-gpu_seconds"

    @property
    def descends(self) -> bool:
        return self.value.startswith("-")

    @property
    def column(self) -> InstrumentedAttribute[Any] | None:
        """What is sorted by before the id; None: by nothing else."""
        return _COLUMNS.get(self.value.removeprefix("-"))


_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "name": Job.name,
    "status": Job.status,
    "finished": Job.finished_at,
    "accuracy": Job.final_accuracy,
    "gpu_seconds": Job.final_gpu_seconds,
}
_SHOWN = {"finished": "finished_at"}
"""Where a job that has ended holds the same under another name than its order's."""


@dataclass(frozen=True)
class Filter:
    """Which jobs: those that meet everything that is given."""

    ids: Sequence[str] = ()
    """Any of them."""
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

    @property
    def is_more_than_a_search(self) -> bool:
        given = (self.ids, self.status, self.owner, self.model, self.preset, self.created_after, self.created_before)
        return any(given)


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
    search = _Search.of(wanted)
    if search is None:
        return [Listed(*row) for row in session.execute(page)]
    if search.says_what_no_text_is:
        return []
    # How common an entry is, Postgres guesses badly, and a bad guess reads every job of the team. So: first among the
    # nearest, where whatever is common fills a page; else through the index, since it is rare.
    found = session.execute(_nearest(line, wanted, search).limit(limit)).all()
    is_all = session.execute(line.select(Job.id).offset(_NEAREST).limit(1)).one_or_none() is None
    if len(found) < limit and not is_all:
        rare = _rare(session, line, wanted, search)
        statement = page.where(*search.conditions()) if rare is None else _sorted_last(line, wanted, rare).limit(limit)
        found = session.execute(statement).all()
    return [Listed(*row) for row in found]


# An array, and not a list of as many parameters as there are jobs: then it is the same statement each time, which is
# prepared once.
_OWNED = (
    select(Job, Key.name).join(Key, Key.id == Job.created_by).where(Job.id == any_(bindparam("ids", type_=ARRAY(Text))))
)
_LISTED = _OWNED.options(WITHOUT_SPEC)
_WHOLE = _OWNED.options(undefer(Job.facade))


def read(session: Session, listed: Sequence[Listed], *, whole: bool = False) -> tuple[list[Job], dict[str, str]]:
    """What was found, in its order, and the names of the keys that made them, by the keys' ids.

    Without `spec`, unless whole: then with it and `facade`. Jobs that are gone since are left out.
    """
    rows = session.execute(_WHOLE if whole else _LISTED, {"ids": [each.id for each in listed]}).all()
    jobs = {job.id: job for job, _ in rows}
    owners = {job.created_by: name for job, name in rows}
    return [jobs[each.id] for each in listed if each.id in jobs], owners


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
    name = sort.value.removeprefix("-")
    value = getattr(job, _SHOWN.get(name, name))
    place = json.dumps([value.isoformat() if isinstance(value, datetime) else value, job.id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _nearest(line: "_Line", wanted: Filter, search: "_Search") -> Select[*tuple[Any, ...]]:
    """What is found among the next jobs in order, of which no more are looked at."""
    jobs = line.select(*Job.__table__.columns, ROW_VERSION.label("version")).limit(_NEAREST).subquery()
    near = aliased(Job, jobs)
    found = _filtered(select(jobs.c.id, jobs.c.version), wanted, near).where(*search.conditions(near))
    return line.ordered(found, [jobs.c[column.key] for column in line.columns])


def _rare(session: Session, line: "_Line", wanted: Filter, search: "_Search") -> list[ColumnElement[bool]] | None:
    """The search as conditions under which few jobs have to be looked at; None where there are none."""
    if wanted.is_more_than_a_search:
        met = _filtered(line.select(Job.id), wanted).order_by(None).limit(_MANY + 1).subquery()
        if session.scalars(select(func.count()).select_from(met)).one() <= _MANY:
            return search.conditions()
    ids = search.ids(session)
    return None if len(ids) > _MANY else [Job.id == any_(bindparam("found", list(ids), type_=ARRAY(Text)))]


def _sorted_last(line: "_Line", wanted: Filter, rare: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    """Everything that is found, and only then its order, so that no index of the order is read in its place."""
    places = [column.label(f"place_{number}") for number, column in enumerate(line.columns)]
    unsorted = _filtered(line.select(Job.id, ROW_VERSION.label("version"), *places), wanted).where(*rare)
    found = unsorted.order_by(None).offset(0).subquery()
    return line.ordered(select(found.c.id, found.c.version), [found.c[place.name] for place in places])


# The function is store.tenancy's, which says why: behind the policies there is no index for this.
_FOUND = text("SELECT asym_jobs_found(:tags, :words, CAST(:facade AS jsonb), :most)")


@dataclass(frozen=True)
class _Search:
    """What no order of jobs helps with."""

    tags: list[str] | None
    words: list[str] | None
    facade: dict[str, Any] | None

    @classmethod
    def of(cls, wanted: Filter) -> "_Search | None":
        search = cls(list(wanted.tags) or None, job_words.typed(wanted.text or "") or None, wanted.facade)
        return None if search == cls(None, None, None) else search

    @property
    def says_what_no_text_is(self) -> bool:
        """No text in Postgres has U+0000, nor may a statement."""
        return any("\0" in entry for entry in (self.tags or []) + (self.words or []))

    def conditions(self, job: type[Job] = Job) -> list[ColumnElement[bool]]:
        """For looking at one job after the other."""
        asked: list[tuple[InstrumentedAttribute[Any], Any]]
        asked = [(job.tags, self.tags), (job.words, self.words), (job.facade, self.facade)]
        return [column.op("@>")(literal(value, column.type)) for column, value in asked if value is not None]

    def ids(self, session: Session) -> Sequence[str]:
        """Of all of the team's jobs that have it, through the index; at most one more than `_MANY`."""
        facade = None if self.facade is None else json.dumps(self.facade)
        given = {"tags": self.tags, "words": self.words, "facade": facade, "most": _MANY + 1}
        return session.scalars(_FOUND, given).all()


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
        if self._sort.column is not None and self._sort.column.expression.nullable:
            statement = statement.where(self._sort.column.is_not(None))
        return self.ordered(statement, self.columns)

    def ordered(
        self, statement: Select[*tuple[Any, ...]], columns: Sequence[ColumnElement[Any] | InstrumentedAttribute[Any]]
    ) -> Select[*tuple[Any, ...]]:
        return statement.order_by(*(each.desc() if self._sort.descends else each for each in columns))


def _filtered(statement: Select[*tuple[Any, ...]], wanted: Filter, job: type[Job] = Job) -> Select[*tuple[Any, ...]]:
    if wanted.ids:
        statement = statement.where(job.id.in_(wanted.ids))
    if len(wanted.status) == 1:
        statement = statement.where(job.status == wanted.status[0])
    elif wanted.status:
        statement = statement.where(job.status.in_(wanted.status))
    for column, value in ((job.created_by, wanted.owner), (job.model, wanted.model), (job.preset, wanted.preset)):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.created_after is not None:
        earliest = first_id("job", _shifted(wanted.created_after, -_CLOCKS_DIFFER))
        statement = statement.where(job.created_at >= wanted.created_after, job.id >= earliest)
    if wanted.created_before is not None:
        latest = first_id("job", _shifted(wanted.created_before, _CLOCKS_DIFFER))
        statement = statement.where(job.created_at < wanted.created_before, job.id < latest)
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
        if not isinstance(id, str) or "\0" in id:
            raise ValueError("not a place")
        id.encode()  # a lone surrogate, which no text of ours holds
        if sort.column is Job.final_accuracy or sort.column is Job.final_gpu_seconds:
            return float(value), id
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("not a place")
        value.encode()
        if sort.column is Job.finished_at:
            return datetime.fromisoformat(value), id
        return (JobStatus(value) if sort.column is Job.status else value), id
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise Invalid([{"loc": ["query", "after"], "msg": "not a `next` of this list in this order"}]) from None
