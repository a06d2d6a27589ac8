"""Regular expressions of jobs and data sets, by RE2: matched in time linear in the text, whatever the pattern.

RE2 has no lookaround and no backreferences, which is what makes it safe to run a stranger's pattern in one's own
process. It is imported when the first pattern comes.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol, cast

MAX_PATTERN_CHARS = 2000
MAX_PROGRAM_SIZE = 2000
"""Instructions. A search costs at most text length times this, and repetitions (`(a{9}){9}`) multiply it."""

_UNSUPPORTED = {
    "invalid perl operator: (?": "lookaround and the like",
    "invalid escape sequence: \\": "backreferences, or an escape that there is not",
}


class Match(Protocol):
    def group(self, number: int = 0) -> str | None: ...


class Pattern(Protocol):
    groups: int

    def search(self, text: str) -> Match | None: ...
    def fullmatch(self, text: str) -> Match | None: ...
    def finditer(self, text: str) -> Iterator[Match]: ...


@lru_cache(maxsize=256)
def compile_pattern(text: str, *, ignore_case: bool = False) -> Pattern:
    """ValueError, in words for its writer, when RE2 does not take it or it is too large."""
    import re2

    if len(text) > MAX_PATTERN_CHARS:
        raise ValueError(f"the pattern has {len(text):,} characters; the limit is {MAX_PATTERN_CHARS:,}")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        raise ValueError(_explained(error.args[0])) from None
    except UnicodeEncodeError:
        raise ValueError("the pattern has half a surrogate pair") from None
    if compiled.programsize > MAX_PROGRAM_SIZE:
        raise ValueError("the pattern is too large: its repetitions multiply")
    return cast(Pattern, compiled)


def _explained(reason: bytes | str) -> str:
    said = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
    hint = next((f" (RE2 has no {what})" for start, what in _UNSUPPORTED.items() if said.startswith(start)), "")
    return f"not a regular expression of RE2: {said}{hint}"
