"""What is new in a job's metrics since a revision: rows that were written, and steps that were taken back.

A row gets a revision whenever it is written, a later one than all of its job's before; so does a supersession, by
which an attempt that goes on from an earlier step takes back what came after it. Who has seen a revision asks for
what follows it, and misses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
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
    if revision >= job.revision:
        return Changed(None, {})
    statement = select(JobMetric.step, JobMetric.values).where(
        JobMetric.job_id == job.job_id, JobMetric.revision > revision
    )
    rows = session.execute(statement.order_by(JobMetric.revision).limit(most_rows + 1)).all()
    if len(rows) > most_rows:
        return None
    drop_after = session.scalar(
        select(func.min(JobMetricSupersession.kept)).where(
            JobMetricSupersession.job_id == job.job_id, JobMetricSupersession.revision > revision
        )
    )
    low, high = from_step or 0, job.last_step if to_step is None else to_step
    wanted = sorted((step, values) for step, values in rows if low <= step <= high)
    curves = columns((step, {key: values[key] for key in values if key in selection}) for step, values in wanted)
    return Changed(drop_after, dict(sorted(curves.items())))


def after(session: Session, job_id: str, revision: int, limit: int) -> Sequence[Row | TakenBack]:
    """What followed `revision`, one change after the other, at most so many."""
    rows = session.execute(
        select(JobMetric.revision, JobMetric.step, JobMetric.attempt, JobMetric.values)
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
