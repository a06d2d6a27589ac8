"""Searching jobs by the words of their names and notes.

Words are taken apart here and not by Postgres's text parser, which takes `gsm8k-asym_v2` for a host name or a path
depending on what is in it. A word is a run of letters and digits; a search finds those that begin with what was typed.
"""

import re

from sqlalchemy import ColumnElement, Text, cast, func, literal
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY

from store.models import Job

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 100
"""Characters of a word that count."""


def of(text: str) -> list[str]:
    """The words of a text, each once, in lower case."""
    return list(dict.fromkeys(word[:_LONGEST] for word in _WORD.findall(text.lower())))


def lexemes(name: str, notes: str) -> ColumnElement[object]:
    """What `jobs.words` holds for a job of this name and these notes."""
    return func.array_to_tsvector(cast(literal(of(f"{name} {notes}"), ARRAY(Text)), ARRAY(Text)))


def found_by(text: str) -> ColumnElement[bool]:
    """The condition that for every word of `text` the job has one that begins with it."""
    query = " & ".join(f"'{word}':*" for word in of(text))
    return Job.words.op("@@")(cast(query, TSQUERY))
