"""Reading curves: a bounded number of points, out of a bounded number of chunks and rows however long the run is.

All statements of one answer must see the same state: call these in one `Database.transaction(snapshot=True)`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from store.access import Identity, of_team
from store.errors import NotFound
from store.metrics.curve import Curve, aligned, columns, fit, level_shown, shown
from store.metrics.levels import Piece, cover, finer, stored
from store.metrics.pyramid import points
from store.metrics.selection import Selection
from store.models import Job, JobMetric, JobMetricSupersession
from store.status import JobStatus

Curves = dict[str, Curve]
"""By key."""

_FEW_KEYS = 8
"""Up to so many, the database picks them out of the rows; more are picked here, since each takes the row apart anew."""


@dataclass(frozen=True)
class Head:
    """A job, and the state of its metrics: as long as `revision` is the same, all that is read of them is."""

    job_id: str
    name: str
    status: JobStatus
    sealed: int
    last_step: int
    """-1 where nothing was measured."""
    revision: int


def heads(session: Session, identity: Identity, job_ids: Sequence[str]) -> list[Head]:
    """In the order of the ids. NotFound for the first that is not the team's."""
    for job_id in job_ids:
        if not job_id.isascii() or "\0" in job_id:
            raise NotFound("job", job_id)
    newest = {
        column: select(func.max(column)).where(of == Job.id).scalar_subquery()
        for column, of in (
            (JobMetric.step, JobMetric.job_id),
            (JobMetric.revision, JobMetric.job_id),
            (JobMetricSupersession.revision, JobMetricSupersession.job_id),
        )
    }
    rows = session.execute(
        select(
            Job.id,
            Job.name,
            Job.status,
            Job.metrics_sealed,
            func.coalesce(newest[JobMetric.step], -1),
            func.greatest(newest[JobMetric.revision], newest[JobMetricSupersession.revision], 0),
        ).where(Job.id.in_(job_ids), of_team(identity, Job))
    )
    found = {row[0]: Head(*row) for row in rows}
    for job_id in job_ids:
        if job_id not in found:
            raise NotFound("job", job_id)
    return [found[job_id] for job_id in job_ids]


def read(
    session: Session,
    jobs: Sequence[Head],
    selection: Selection,
    max_points: int,
    from_step: int | None = None,
    to_step: int | None = None,
    *,
    same_steps: bool = False,
) -> dict[str, Curves]:
    """By job, its curves sorted by key, each thinned to `max_points` (store.metrics.curve.shown) where it has more.

    A whole key that was never measured is there, without points. same_steps: keep the same steps of every run instead
    of the extremes (store.metrics.curve.aligned).
    """
    pick = aligned if same_steps else shown
    answer: dict[str, Curves] = {job.job_id: {key: Curve() for key in selection.exact} for job in jobs}
    wants = [_first_look(job, selection, max_points, from_step, to_step) for job in jobs if job.last_step >= 0]
    while wants:
        _gather(session, wants)
        closer = []
        for want in wants:
            curves = answer[want.job.job_id]
            again = []
            for key, found in want.found.items():
                curve = found.curve()
                # Thinned no more than it is to be shown, and not to be shown whole.
                enough = found.measured > max_points and level_shown(curve, max_points) >= want.level
                if found.whole or enough:
                    curves[key] = pick(curve, max_points, found.measured)
                else:
                    again.append(key)
            if again:
                closer.append(_Want(want.job, finer(want.level), want.begin, want.end, Selection(exact=again)))
        wants = closer
    return {job_id: dict(sorted(curves.items())) for job_id, curves in answer.items()}


@dataclass
class _Found:
    """What chunks and rows hold of a key, a part each."""

    parts: list[Curve] = field(default_factory=list)
    measured: int = 0
    """At least so many points there were before they were thinned."""
    whole: bool = True
    """No point was thinned out."""

    def curve(self) -> Curve:
        joined = Curve()
        for part in sorted(self.parts, key=lambda part: part.step[0]):
            joined.extend(part)
        return joined


@dataclass
class _Want:
    """Some keys of a job over a range of steps (begin..end-1), at one level."""

    job: Head
    level: int
    begin: int
    end: int
    keys: Selection
    found: dict[str, _Found] = field(default_factory=lambda: defaultdict(_Found))

    def pieces(self) -> list[Piece]:
        # Where the range goes to the last step, its last bucket is whole although its steps are not all there yet.
        end = self.end if self.end <= self.job.last_step else self.job.sealed
        return cover(self.begin, end, self.job.sealed, self.level)

    def add(self, key: str, curve: Curve, measured: int, *, whole: bool) -> None:
        if curve.step and key in self.keys:
            found = self.found[key]
            found.parts.append(curve)
            found.measured += measured
            found.whole &= whole


def _first_look(job: Head, selection: Selection, max_points: int, from_step: int | None, to_step: int | None) -> _Want:
    begin = from_step or 0
    end = (job.last_step if to_step is None else to_step) + 1
    last = min(end - 1, job.last_step)
    # As most curves need it: without nulls, with a value at every step. `read` looks closer at the others.
    level = stored(fit(begin, max(begin, last), max(1, max_points // 2 - 1)))
    return _Want(job, level, begin, end, selection)


def _gather(session: Session, wants: Sequence[_Want]) -> None:
    pieces = [(want, piece) for want in wants for piece in want.pieces()]
    for want, piece, key, chunk, count, *values in _chunks(session, pieces):
        stored = points(chunk, *values)
        curve = stored.between(piece.begin, piece.end)
        want.add(key, curve, count if curve is stored else len(curve), whole=len(stored) == count)
    for want, rows in _rows(session, wants):
        for key, curve in columns(rows).items():
            want.add(key, curve, len(curve), whole=True)


# LATERAL with OFFSET 0: an index look-up per piece, whatever the planner thinks of the table's size.
_CHUNKS = """
SELECT piece.number, found.* FROM unnest(
    CAST(:jobs AS text[]), CAST(:levels AS smallint[]), CAST(:first AS int[]), CAST(:last AS int[])
) WITH ORDINALITY AS piece (job_id, level, first, last, number)
CROSS JOIN LATERAL (
    SELECT key, chunk, count, steps, numbers, others FROM job_metric_chunks
    WHERE job_id = piece.job_id AND level = piece.level AND chunk BETWEEN piece.first AND piece.last {keys} OFFSET 0
) AS found
"""
_CHUNKS_OF_ALL = text(_CHUNKS.format(keys=""))
_CHUNKS_OF_KEYS = text(_CHUNKS.format(keys="AND key = ANY(CAST(:exact AS text[]))"))
_CHUNKS_OF_BEGINNINGS = text(
    _CHUNKS.format(keys="AND (key = ANY(CAST(:exact AS text[])) OR key ^@ ANY(CAST(:prefixes AS text[])))")
)


def _chunks(session: Session, pieces: Sequence[tuple[_Want, Piece]]) -> Iterator[tuple[Any, ...]]:
    """(want, piece, key, chunk, count, steps, numbers, others) of every chunk of the pieces, in any order."""
    if not pieces:
        return
    keys = _united(want.keys for want, _ in pieces)
    statement = _CHUNKS_OF_ALL if keys.everything else _CHUNKS_OF_BEGINNINGS if keys.prefixes else _CHUNKS_OF_KEYS
    parameters: dict[str, list[Any]] = {
        "jobs": [want.job.job_id for want, _ in pieces],
        "levels": [piece.level for _, piece in pieces],
        "first": [piece.chunks[0] for _, piece in pieces],
        "last": [piece.chunks[1] for _, piece in pieces],
    }
    if not keys.everything:
        parameters["exact"] = list(keys.exact)
    if keys.prefixes:
        parameters["prefixes"] = list(keys.prefixes)
    for number, *row in session.execute(statement, parameters):
        yield (*pieces[number - 1], *row)


_ROWS = """
SELECT want.number, found.step, found.values FROM unnest(
    CAST(:jobs AS text[]), CAST(:begin AS int[]), CAST(:end AS int[])
) WITH ORDINALITY AS want (job_id, begins, ends, number)
CROSS JOIN LATERAL (
    SELECT step, {values} AS values FROM job_metrics
    WHERE job_id = want.job_id AND step >= want.begins AND step < want.ends OFFSET 0
) AS found
ORDER BY want.number, found.step
"""


def _rows(session: Session, wants: Sequence[_Want]) -> Iterator[tuple[_Want, list[tuple[int, dict[str, Any]]]]]:
    """Of each want, (step, values by key) of the steps that are not sealed yet."""
    open_ends = [(want, max(want.begin, want.job.sealed)) for want in wants]
    open_ends = [(want, begin) for want, begin in open_ends if begin < want.end]
    if not open_ends:
        return
    parameters: dict[str, Any] = {
        "jobs": [want.job.job_id for want, _ in open_ends],
        "begin": [begin for _, begin in open_ends],
        "end": [min(want.end, want.job.last_step + 1) for want, _ in open_ends],
    }
    keys = _united(want.keys for want in wants)
    picked = keys.exact if not keys.prefixes and 0 < len(keys.exact) <= _FEW_KEYS else ()
    if picked:
        # As text, in which a value that is absent (NULL) and one that is undefined (null) differ.
        each = (f"CAST(values -> CAST(:key{index} AS text) AS text)" for index in range(len(picked)))
        statement = _ROWS.format(values=f"ARRAY[{', '.join(each)}]")
        parameters |= {f"key{index}": key for index, key in enumerate(picked)}
    else:
        statement = _ROWS.format(values="values")
    found = session.execute(text(statement), parameters)
    for number, rows in groupby(found, key=itemgetter(0)):
        of_job = [(step, _present(picked, values) if picked else values) for _, step, values in rows]
        yield open_ends[number - 1][0], of_job


def _present(keys: Sequence[str], texts: Sequence[str | None]) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in zip(keys, texts, strict=True) if text is not None}


def _united(selections: Iterable[Selection]) -> Selection:
    every = list(selections)
    if any(each.everything for each in every):
        return Selection()
    return Selection(
        exact=tuple(dict.fromkeys(key for each in every for key in each.exact)),
        prefixes=tuple(dict.fromkeys(prefix for each in every for prefix in each.prefixes)),
    )
