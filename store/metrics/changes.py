"""What is new in a job's metrics since a revision: rows that were written, and steps that were taken back.

A row gets a revision whenever it is written, a later one than all of its job's before; so does a supersession, by
which an attempt that goes on from an earlier step takes back what came after it. Who has seen a revision asks for
what follows it, and misses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from store.metrics.curve import Curve, columns
from store.metrics.reading import Head
from store.metrics.selection import Selection
from store.models import JobMetric, JobMetricSupersession


@dataclass(frozen=True)
class Changed:
    """To be done by a reader in this order: drop what lies behind `drop_after`, then put in the curves' points."""

    drop_after: int | None
    """Points of later steps are no more; None: nothing was taken back."""
    curves: dict[str, Curve]
    """Rows that were written, with all their values of the keys asked for."""


@dataclass(frozen=True)
class Row:
    revision: int
    step: int
    attempt: int
    at: datetime
    values: dict[str, Any]


@dataclass(frozen=True)
class TakenBack:
    revision: int
    kept: int
    """The steps after it are no more."""


def since(
    session: Session,
    job: Head,
    revision: int,
    selection: Selection,
    most_rows: int,
    from_step: int | None = None,
    to_step: int | None = None,
) -> Changed | None:
    """What followed `revision`, up to the head's; None when that is more than `most_rows` rows."""
    return of_jobs(session, [(job, revision)], selection, most_rows, from_step, to_step)[job.job_id]


# LATERAL: an index look-up per job, whatever the planner thinks of the table's size.
_ROWS = text("""
SELECT want.job_id, found.step, found.values FROM unnest(
    CAST(:jobs AS text[]), CAST(:revisions AS bigint[])
) AS want (job_id, revision)
CROSS JOIN LATERAL (
    SELECT step, values FROM job_metrics
    WHERE job_id = want.job_id AND revision > want.revision ORDER BY revision LIMIT :limit
) AS found
""")
_TAKEN_BACK = text("""
SELECT want.job_id, min(kept) FROM unnest(
    CAST(:jobs AS text[]), CAST(:revisions AS bigint[])
) AS want (job_id, revision)
JOIN job_metric_supersessions AS found ON found.job_id = want.job_id AND found.revision > want.revision
GROUP BY want.job_id
""")


def of_jobs(
    session: Session,
    seen: Sequence[tuple[Head, int]],
    selection: Selection,
    most_rows: int,
    from_step: int | None = None,
    to_step: int | None = None,
) -> dict[str, Changed | None]:
    """By job, what followed the revision that was seen of it, as `since`: two statements however many jobs."""
    changed: dict[str, Changed | None] = {job.job_id: Changed(None, {}) for job, _ in seen}
    behind = {job.job_id: (job, revision) for job, revision in seen if revision < job.revision}
    if not behind:
        return changed
    asked = {"jobs": list(behind), "revisions": [revision for _, revision in behind.values()]}
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {job_id: [] for job_id in behind}
    for job_id, step, values in session.execute(_ROWS, {**asked, "limit": most_rows + 1}):
        rows[job_id].append((step, values))
    taken_back: dict[str, int] = dict(session.execute(_TAKEN_BACK, asked).all())
    for job_id, (job, _) in behind.items():
        if len(rows[job_id]) > most_rows:
            changed[job_id] = None
            continue
        low, high = from_step or 0, job.last_step if to_step is None else to_step
        wanted = sorted((step, values) for step, values in rows[job_id] if low <= step <= high)
        curves = columns((step, {key: values[key] for key in values if key in selection}) for step, values in wanted)
        changed[job_id] = Changed(taken_back.get(job_id), dict(sorted(curves.items())))
    return changed


def after(session: Session, job_id: str, revision: int, limit: int) -> Sequence[Row | TakenBack]:
    """What followed `revision`, one change after the other, at most so many."""
    rows = session.execute(
        select(JobMetric.revision, JobMetric.step, JobMetric.attempt, JobMetric.at, JobMetric.values)
        .where(JobMetric.job_id == job_id, JobMetric.revision > revision)
        .order_by(JobMetric.revision)
        .limit(limit)
    )
    taken_back = session.execute(
        select(JobMetricSupersession.revision, JobMetricSupersession.kept)
        .where(JobMetricSupersession.job_id == job_id, JobMetricSupersession.revision > revision)
        .order_by(JobMetricSupersession.revision)
        .limit(limit)
    )
    changes: list[Row | TakenBack] = [*(Row(*row) for row in rows), *(TakenBack(*row) for row in taken_back)]
    return sorted(changes, key=lambda change: change.revision)[:limit]
