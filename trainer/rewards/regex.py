"""`regex`: the response matches a pattern, or what a pattern finds in it is the answer. By RE2, in linear time."""

import time

from trainer.rewards import exact
from trainer.rewards.answer_error import BadAnswerError
from trainer.spec.pattern import Match, Pattern, compile_pattern

SEARCH_SECONDS = 1.0
"""One search is linear, all matches of a response need not be: each may look ahead to its end."""


class SlowPatternError(Exception):
    """Finding the last match took longer than `SEARCH_SECONDS`."""


def score(
    response: str, answer: str, *, pattern: str | None = None, ignore_case: bool = False, full_match: bool = False
) -> bool:
    """Without `pattern` the answer is one, to be found in the response. With it, group 1 of its last match (the whole
    match where it has no group) must equal the answer as in `exact`.

    `full_match`: the pattern must match all of the response but the space around it. BadAnswerError when the answer
    is to be a pattern and is none; SlowPatternError.
    """
    # RE2 works on UTF-8, which half a surrogate pair has no place in.
    response = response.encode(errors="replace").decode()
    if pattern is None:
        compiled = _answer_pattern(answer, ignore_case)
        return (compiled.fullmatch(response.strip()) if full_match else compiled.search(response)) is not None
    compiled = compile_pattern(pattern, ignore_case=ignore_case)
    match = compiled.fullmatch(response.strip()) if full_match else _last_match(compiled, response)
    if match is None:
        return False
    found = match.group(1 if compiled.groups else 0)
    return found is not None and exact.score(found, answer, ignore_case=ignore_case)


def check(answer: str, *, pattern: str | None = None, ignore_case: bool = False, full_match: bool = False) -> None:
    """BadAnswerError when the answer is empty, or is to be a pattern and is none."""
    exact.check(answer)
    if pattern is None:
        _answer_pattern(answer, ignore_case)


def _answer_pattern(answer: str, ignore_case: bool) -> Pattern:
    exact.check(answer)
    try:
        return compile_pattern(answer, ignore_case=ignore_case)
    except ValueError as error:
        raise BadAnswerError(f"the answer {answer[:60]!r}: {error}") from None


def _last_match(pattern: Pattern, text: str) -> Match | None:
    deadline = time.perf_counter() + SEARCH_SECONDS
    last = None
    for last in pattern.finditer(text):  # noqa: B007 - the last one is what is wanted
        if time.perf_counter() > deadline:
            raise SlowPatternError
    return last
