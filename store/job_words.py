"""Searching jobs by the words of their names and notes.

A word is a run of letters and digits; a search finds the jobs that for each word typed have one that begins with it.
The table keeps every beginning of every word, so that a search is for whole entries of the index: Postgres then knows
how common each is, which it does not know of the prefix queries of its text search, and plans accordingly. (pg_trgm,
which finds any substring, is not part of the embedded Postgres.)
"""

import re

from sqlalchemy import ColumnElement, Text, false, literal
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import InstrumentedAttribute

from store.models import Job

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 32
"""Characters of a word that count."""


def beginnings(name: str, notes: str) -> list[str]:
    """What `jobs.words` holds for a job of this name and these notes."""
    words = _words(f"{name} {notes}")
    return sorted({word[:length] for word in words for length in range(1, len(word) + 1)})


def found_by(text: str) -> ColumnElement[bool] | None:
    """The condition under which a search for `text` finds a job; None where it says nothing."""
    return holds(Job.words, _words(text))


def holds(column: InstrumentedAttribute[list[str]], entries: list[str]) -> ColumnElement[bool] | None:
    """The condition that an array holds all of these; None for none."""
    if not entries:
        return None
    if any("\0" in entry for entry in entries):  # which no text in Postgres has, nor may a statement
        return false()
    # Within the statement and not parameters of it: the plan depends on how common they are.
    return column.op("@>")(array([literal(entry, Text, literal_execute=True) for entry in entries]))


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word[:_LONGEST] for word in _WORD.findall(text.lower())))
