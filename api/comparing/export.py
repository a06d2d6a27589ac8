"""Metrics as CSV, every step of them, in a bounded amount of memory: read and sent a thousand steps at a time."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

from store import comparing
from store.access import Identity
from store.database import Database
from store.metrics.selection import Selection
from store.tenancy import serving

STEPS_AT_ONCE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With which a spreadsheet takes a cell for a formula (OWASP, CSV injection)."""


def lines(
    database: Database, identity: Identity, named: Sequence[tuple[str, str]], keys: Sequence[str]
) -> Iterator[bytes]:
    """A line per run and step. named: (id, name) of the jobs, which the caller has looked up.

    A key that was not measured at a step is an empty cell, one that is undefined there is `null`.
    """
    yield _written([["job_id", "name", "step", "attempt", "at", *keys]])
    wanted = Selection(exact=tuple(keys))
    for job_id, name in named:
        text, last = inert(name), -1
        while True:
            # A transaction for each piece: whoever reads slowly holds no connection.
            with serving(identity.team_id), database.transaction() as session:
                rows = list(comparing.rows_after(session, job_id, last, STEPS_AT_ONCE))
            if not rows:
                break
            last = rows[-1][0]
            piece = [
                [job_id, text, step, attempt, at.isoformat(), *(_cell(values, key) for key in keys)]
                for step, attempt, at, values in rows
                if any(key in wanted for key in values)
            ]
            yield _written(piece)


def inert(text: str) -> str:
    """A stranger's text, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cell(values: object, key: str) -> str:
    return json.dumps(values[key]) if isinstance(values, dict) and key in values else ""


def _written(rows: Sequence[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()
