"""Metric values a second through the fenced write path, in batches as a worker makes them; what they take on disk."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import text

from bench.api import contents
from bench.api.timing import Times
from store import leases
from store.database import Database
from trainer.spec.events import Event

BATCH_ITEMS = 200
"""As worker.backlog has it: at most so many events and log lines in one transaction."""

_TABLES = {
    "rows": ("job_metrics",),
    "pyramid": ("job_metric_chunks",),
    "journal": ("job_events",),
}


@dataclass(frozen=True)
class Ingest:
    values: int
    batches: Times
    bytes_per_value: dict[str, float]
    """On disk, indexes and TOAST included, by what they are: the rows, the pyramid, the journal's copy of the step."""

    @property
    def rate(self) -> float:
        """Values a second."""
        return self.values / sum(self.batches.seconds)


def ingest(database: Database, job_id: str, seconds: float, batch_items: int = BATCH_ITEMS) -> Ingest:
    """Record whole batches of one job, one after the other, for about so long."""
    before = _sizes(database)
    said = contents.steps_said(1, 10**9)
    taken: list[float] = []
    values = 0
    while sum(taken) < seconds:
        events: Sequence[Event] = list(
            islice(said, batch_items)
        )  # made before the clock runs: it is the trainer's work
        began = time.perf_counter()
        with database.transaction() as session:
            leases.record(session, job_id, 1, list(events), [], batch=len(taken) + 1)
        taken.append(time.perf_counter() - began)
        values += len(events) * len(contents.KEYS)
    after = _sizes(database)
    return Ingest(values, Times(taken), {name: (after[name] - before[name]) / values for name in _TABLES})


def _sizes(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        return {
            name: sum(
                session.scalar(text("SELECT pg_total_relation_size(:table)"), {"table": table}) for table in tables
            )
            for name, tables in _TABLES.items()
        }
