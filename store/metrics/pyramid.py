"""Writing the pyramid: chunks that are complete, in the transaction that completes them.

The rows of job_metrics are the truth and stay as they are; every chunk can be made of them again. Whoever calls has
locked the job's row, so a job's chunks are written by one transaction at a time. A chunk of a coarser level is made of
those of the finer one, which are a quarter or a sixteenth as many points each time: together they cost less than
level 0 alone. Where an attempt goes on from an earlier step, the chunks that hold later ones go with these.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, literal, select, text
from sqlalchemy.orm import Session

from store.database import Database
from store.fencing import lock
from store.metrics.curve import Curve, Value, columns, thin
from store.metrics.levels import LEVELS, SPAN, finer, width
from store.models import Job, JobMetric, JobMetricChunk

_MOST_STEPS = 16 * SPAN
"""So many steps become chunks in one transaction at most: more than a batch holds, and few enough for the renewal of a
lease, which waits for the job's row meanwhile."""


@dataclass(frozen=True)
class Chunk:
    key: str
    number: int
    curve: Curve
    count: int
    """How many values were measured in its steps. The curve has fewer points where it is thinned."""


def extend(session: Session, job: Job, touched: Collection[int]) -> None:
    """Bring a locked job's pyramid up to its rows. touched: the steps whose rows this transaction has written."""
    if not touched:
        return
    sealed = job.metrics_sealed
    late = {step // SPAN for step in touched if step < sealed}
    if late:
        # E.g. an evaluation that was said after later steps.
        for level in LEVELS:
            complete = sealed // width(level)
            _build(session, job.id, level, sorted({number >> level for number in late if number >> level < complete}))
    end = min(max(touched) // SPAN * SPAN, sealed + _MOST_STEPS)
    if end > sealed:
        for level in LEVELS:
            _build(session, job.id, level, range(sealed // width(level), end // width(level)))
        job.metrics_sealed = end


def forget_after(session: Session, job: Job, kept: int) -> None:
    """The rows of the steps after `kept` are gone: so are the chunks that held any of them."""
    parameters = {"job_id": job.id, "levels": list(LEVELS), "first": [(kept + 1) // width(level) for level in LEVELS]}
    session.execute(_FORGET, parameters)
    job.metrics_sealed = min(job.metrics_sealed, (kept + 1) // SPAN * SPAN)


def copy(session: Session, source: Job, target: Job, last_step: int) -> None:
    """Of a job whose rows up to `last_step` were copied, the chunks that hold no later steps."""
    target.metrics_sealed = min(source.metrics_sealed, (last_step + 1) // SPAN * SPAN)
    for level in LEVELS:
        whole = select(literal(target.id), *_COPIED).where(
            JobMetricChunk.job_id == source.id,
            JobMetricChunk.level == level,
            JobMetricChunk.chunk < target.metrics_sealed // width(level),
        )
        session.execute(insert(JobMetricChunk).from_select(["job_id", *(each.key for each in _COPIED)], whole))


_COPIED = [column for column in JobMetricChunk.__table__.columns if column.name != "job_id"]


def catch_up(database: Database) -> int:
    """Build what rows of an older version lack, a bounded piece per transaction; how many jobs that were.

    Until it has run such jobs are read from their rows, more slowly. It may be cut off, and run beside a platform at
    work.
    """
    with database.transaction() as session:
        behind = session.scalars(_BEHIND).all()
    for job_id in behind:
        while _catch_up_some(database, job_id):
            pass
    return len(behind)


def _catch_up_some(database: Database, job_id: str) -> bool:
    """Whether there is more to do."""
    with database.transaction() as session:
        job = lock(session, job_id)
        last = session.scalar(select(func.max(JobMetric.step)).where(JobMetric.job_id == job_id))
        if job is None or last is None:
            return False
        extend(session, job, [last])
        return job.metrics_sealed < last // SPAN * SPAN


_BEHIND = text(f"""
SELECT jobs.id FROM jobs
CROSS JOIN LATERAL (SELECT max(step) AS step FROM job_metrics WHERE job_id = jobs.id) AS newest
WHERE newest.step / {SPAN} * {SPAN} > jobs.metrics_sealed AND jobs.deleted_at IS NULL
""")  # noqa: S608 - a constant

_FORGET = text("""
DELETE FROM job_metric_chunks USING unnest(CAST(:levels AS smallint[]), CAST(:first AS int[])) AS gone (level, chunk)
WHERE job_id = :job_id AND job_metric_chunks.level = gone.level AND job_metric_chunks.chunk >= gone.chunk
""")

_REPLACE = text("""
INSERT INTO job_metric_chunks (job_id, level, key, chunk, count, steps, numbers, others)
SELECT :job_id, :level, key, chunk, count, CAST(steps AS int[]), CAST(numbers AS float8[]), CAST(others AS jsonb)
FROM unnest(CAST(:keys AS text[]), CAST(:chunks AS int[]), CAST(:counts AS int[]), CAST(:steps AS text[]),
            CAST(:numbers AS text[]), CAST(:others AS text[])) AS new (key, chunk, count, steps, numbers, others)
ON CONFLICT (job_id, level, key, chunk) DO UPDATE SET
    count = excluded.count, steps = excluded.steps, numbers = excluded.numbers, others = excluded.others
""")


def _build(session: Session, job_id: str, level: int, numbers: Sequence[int]) -> None:
    """Write these chunks (rising) anew."""
    if not numbers:
        return
    chunks = list(_from_rows(session, job_id, numbers) if level == 0 else _from_finer(session, job_id, level, numbers))
    if chunks:
        written = [_written(chunk, level) for chunk in chunks]
        columns = {name: [row[name] for row in written] for name in written[0]}
        session.execute(_REPLACE, {"job_id": job_id, "level": level, **columns})


def _from_rows(session: Session, job_id: str, numbers: Sequence[int]) -> Iterable[Chunk]:
    rows = session.execute(
        select(JobMetric.step, JobMetric.values)
        .where(
            JobMetric.job_id == job_id, JobMetric.step >= numbers[0] * SPAN, JobMetric.step < (numbers[-1] + 1) * SPAN
        )
        .order_by(JobMetric.step)
    )
    wanted, by_chunk = set(numbers), defaultdict[int, list[tuple[int, Mapping[str, Any]]]](list)
    for step, values in rows:
        by_chunk[step // SPAN].append((step, values))
    for number in wanted & by_chunk.keys():
        for key, curve in columns(by_chunk[number]).items():
            yield Chunk(key, number, curve, len(curve))


def _from_finer(session: Session, job_id: str, level: int, numbers: Sequence[int]) -> Iterable[Chunk]:
    shift = level - finer(level)
    rows = session.execute(
        select(JobMetricChunk.key, JobMetricChunk.chunk, JobMetricChunk.count, *VALUE_COLUMNS)
        .where(
            JobMetricChunk.job_id == job_id,
            JobMetricChunk.level == finer(level),
            JobMetricChunk.chunk >= numbers[0] << shift,
            JobMetricChunk.chunk < (numbers[-1] + 1) << shift,
        )
        .order_by(JobMetricChunk.key, JobMetricChunk.chunk)
    )
    wanted, curves, counts = set(numbers), dict[tuple[str, int], Curve](), defaultdict[tuple[str, int], int](int)
    for key, chunk, count, *stored in rows:
        if chunk >> shift in wanted:
            place = (key, chunk >> shift)
            curves.setdefault(place, Curve()).extend(points(chunk, *stored))
            counts[place] += count
    for (key, number), curve in curves.items():
        yield Chunk(key, number, thin(curve, level), counts[key, number])


VALUE_COLUMNS = (JobMetricChunk.steps, JobMetricChunk.numbers, JobMetricChunk.others)


def points(number: int, steps: list[int] | None, numbers: list[float | None] | None, others: Any) -> Curve:  # noqa: ANN401
    """A stored chunk's curve, of its VALUE_COLUMNS."""
    first = number * SPAN
    values: list[Value] = others if numbers is None else list(numbers)
    return Curve(list(range(first, first + SPAN)) if steps is None else steps, values)


def _written(chunk: Chunk, level: int) -> dict[str, object]:
    """The columns of its row, arrays as Postgres writes them: psycopg would go through them in Python."""
    curve = chunk.curve
    # Without its steps where every one of them has a value.
    steps = None if level == 0 and len(curve) == SPAN else "{" + ",".join(map(str, curve.step)) + "}"
    numbers = others = None
    if set(map(type, curve.value)) <= {float, type(None)}:
        numbers = "{" + ",".join("NULL" if value is None else repr(value) for value in curve.value) + "}"
    else:
        # As they are: a whole number stays one, however large, and a list a list.
        others = json.dumps(curve.value, separators=(",", ":"))
    return {
        "keys": chunk.key,
        "chunks": chunk.number,
        "counts": chunk.count,
        "steps": steps,
        "numbers": numbers,
        "others": others,
    }
