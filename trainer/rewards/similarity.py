"""`similarity`: the response is near enough to the answer. The verdict is right or wrong; how near is not told.

fuzzy_match is the normalized indel similarity, 2 LCS(a, b) / (|a| + |b|) over characters (rapidfuzz's `ratio`, of 1);
rouge_l the same over words, and rouge_N the F1 of common runs of N words (Lin 2004), words in lower case, not stemmed.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence

from trainer.rewards.answer_error import BadAnswerError

_WORD = re.compile(r"\w+")


def score(response: str, answer: str, *, metric: str = "fuzzy_match", threshold: float = 0.8) -> bool:
    check(answer, metric=metric)
    return similarity(response, answer, metric) >= threshold


def similarity(response: str, answer: str, metric: str) -> float:
    """From 0, nothing in common, to 1."""
    if metric == "fuzzy_match":
        return _f1(common_subsequence(response, answer), len(response), len(answer))
    found, wanted = _words(response), _words(answer)
    if metric == "rouge_l":
        return _f1(common_subsequence(found, wanted), len(found), len(wanted))
    length = int(metric.removeprefix("rouge_"))
    return _overlap(_runs(found, length), _runs(wanted, length))


def check(answer: str, *, metric: str = "fuzzy_match", **_options: object) -> None:
    """BadAnswerError when nothing but luck could be similar to it."""
    if not answer.strip():
        raise BadAnswerError("the answer is empty")
    needed = 1 if metric in ("fuzzy_match", "rouge_l") else int(metric.removeprefix("rouge_"))
    if metric != "fuzzy_match" and len(_words(answer)) < needed:
        raise BadAnswerError(f"the answer has {len(_words(answer))} words, and {metric} compares runs of {needed}")


def common_subsequence(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, a row of the table at a time in an integer's bits (Hyyro 2004)."""
    places: dict[Hashable, int] = {}
    for index, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << index
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        matched = row & places.get(item, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(a) - row.bit_count()


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(words: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def _overlap(found: Counter[tuple[str, ...]], wanted: Counter[tuple[str, ...]]) -> float:
    return _f1((found & wanted).total(), found.total(), wanted.total())


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if found + wanted else 0.0
