"""What the rows of a data set are like, counted while they are read, in memory that grows by 8 bytes a row."""

import hashlib
import math
import re
from array import array
from collections import Counter
from dataclasses import dataclass

from trainer.spec.dataset.problem import Problem

ANSWER_KINDS = ("integer", "decimal", "fraction", "choice", "yes_no", "expression", "text")

_PATTERNS = {
    "integer": re.compile(r"[-+]?(\d+|\d{1,3}(,\d{3})+)"),
    "decimal": re.compile(r"[-+]?(\d+|\d{1,3}(,\d{3})+)?\.\d+([eE][-+]?\d+)?"),
    "fraction": re.compile(r"[-+]?(\d+\s*/\s*\d+|\\d?frac\{-?\d+\}\{-?\d+\})"),
    "choice": re.compile(r"\(?[A-Z]\)?\.?"),
    "yes_no": re.compile(r"yes|no|true|false", re.IGNORECASE),
}
_MARKUP = re.compile(r"[\\^_{}=]")
_OPERATOR = re.compile(r"[-+*/(\[,]")
_WORD = re.compile(r"[A-Za-z]{2}")
_BUCKETS = 64


def answer_kind(answer: str) -> str:
    """Which of `ANSWER_KINDS` an answer looks like: a hint for the choice of a verifier, which decides for itself."""
    bare = answer.strip().strip("$").strip()
    for kind, pattern in _PATTERNS.items():
        if pattern.fullmatch(bare):
            return kind
    expression = _MARKUP.search(bare) or (_OPERATOR.search(bare) and not _WORD.search(bare))
    return "expression" if expression else "text"


@dataclass(frozen=True)
class Lengths:
    """Of many texts, or of what else is counted. Quantiles are values that occur (nearest rank)."""

    min: int
    median: int
    p95: int
    max: int
    mean: float

    @classmethod
    def of(cls, counts: Counter[int]) -> "Lengths":
        """counts: length -> how many have it. ValueError when there is none."""
        total = counts.total()
        if not total:
            raise ValueError("no lengths")
        ordered = sorted(counts)

        def quantile(share: float) -> int:
            rank, seen = max(1, math.ceil(share * total)), 0
            for length in ordered:
                seen += counts[length]
                if seen >= rank:
                    return length
            return ordered[-1]

        mean = sum(length * count for length, count in counts.items()) / total
        return cls(ordered[0], quantile(0.5), quantile(0.95), ordered[-1], mean)


@dataclass(frozen=True)
class Statistics:
    """Of the rows that are right."""

    prompt_characters: Lengths
    """Of a chat, of all its messages together."""
    answer_characters: Lengths
    duplicate_prompts: int
    """Rows whose prompt an earlier row has."""
    chats: int
    """Rows whose prompt is chat messages; the others' is text."""
    answer_kinds: dict[str, int]
    """What the answers look like: `ANSWER_KINDS` -> rows, without those that have none."""
    row_kinds: dict[str, int]
    """Verifier -> rows that bring it themselves."""


class StatisticsCounter:
    """Counts row by row."""

    def __init__(self) -> None:
        self._prompt_characters: Counter[int] = Counter()
        self._answer_characters: Counter[int] = Counter()
        self._answer_kinds: Counter[str] = Counter()
        self._row_kinds: Counter[str] = Counter()
        self._chats = 0
        # Hashes of the prompts, in buckets so that only one of them becomes a set of Python's numbers at a time.
        self._prompts = [array("Q") for _ in range(_BUCKETS)]

    def add(self, problem: Problem) -> None:
        if isinstance(problem.prompt, str):
            identity, characters = problem.prompt, len(problem.prompt)
        else:
            self._chats += 1
            identity = "\0".join(f"{message.role}\0{message.content}" for message in problem.prompt)
            characters = sum(len(message.content) for message in problem.prompt)
        self._prompt_characters[characters] += 1
        self._answer_characters[len(problem.answer)] += 1
        self._answer_kinds[answer_kind(problem.answer)] += 1
        if problem.kind is not None:
            self._row_kinds[problem.kind] += 1
        digest = hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=8).digest()
        self._prompts[digest[0] % _BUCKETS].append(int.from_bytes(digest))

    def result(self) -> Statistics | None:
        """None when no row was added."""
        if not self._prompt_characters:
            return None
        return Statistics(
            prompt_characters=Lengths.of(self._prompt_characters),
            answer_characters=Lengths.of(self._answer_characters),
            duplicate_prompts=sum(len(hashes) - len(set(hashes)) for hashes in self._prompts),
            chats=self._chats,
            answer_kinds={kind: self._answer_kinds[kind] for kind in ANSWER_KINDS if self._answer_kinds[kind]},
            row_kinds=dict(sorted(self._row_kinds.items())),
        )
