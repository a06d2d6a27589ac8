"""Searching jobs by the words of their names and notes.

A word is a run of letters and digits; a search finds the jobs that for each word typed have one that begins with it.
The table keeps every beginning of every word, so that a search is for whole entries of the index: Postgres then knows
how common each is, which it does not know of the prefix queries of its text search, and plans accordingly. (pg_trgm,
which finds any substring, is not part of the embedded Postgres.)
"""

import re

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 32
"""Characters of a word that count."""


def beginnings(name: str, notes: str) -> list[str]:
    """What `jobs.words` holds for a job of this name and these notes."""
    words = typed(f"{name} {notes}")
    return sorted({word[:length] for word in words for length in range(1, len(word) + 1)})


def typed(text: str) -> list[str]:
    """The words of a search: a job is found when `jobs.words` holds all of them; nothing is said by none."""
    return list(dict.fromkeys(word[:_LONGEST] for word in _WORD.findall(text.lower())))
