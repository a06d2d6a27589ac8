"""What a data set's row becomes, what a bad row is reported as, and the limits that a file must keep to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainer.spec.model import TINY_ARITH_ALPHABET


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One prompt with its ground truth."""

    row: int
    """JSONL: the line number, 1-based, blank lines counted. CSV and Parquet: the number of the data row, 1-based; a
    CSV's header is not one."""
    prompt: str | list[Message]
    """Plain text, or chat messages of which the last is the user's."""
    answer: str
    kind: str | None = None
    """The verifier of this row where it is not the job's `reward.kind`."""
    options: Mapping[str, object] | None = None
    """Options of the row's verifier; laid over `reward.options` where the kind is the job's."""
    metadata: Mapping[str, object] | None = None
    """What else the verifier is told of the row: plain JSON values."""


@dataclass(frozen=True, slots=True)
class RowError:
    """One thing that is wrong with a file."""

    line: int
    """JSONL: the line. Parquet: the row. CSV: the line of the file on which the row begins, the header being line 1.
    0: the file as a whole."""
    field: str | None
    """The column at fault; None when it is the whole line."""
    msg: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row as its format gives it, before its columns are understood."""

    row: int
    line: int
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Limits:
    """Bounds on what a file may make its reader hold in memory or go through."""

    max_line_bytes: int = 4 * 2**20
    """One JSONL line; one CSV row, quoted line breaks included; one Parquet row as it is held in memory."""
    max_rows: int = 5_000_000
    max_row_group_bytes: int = 2**30
    """One Parquet row group, decompressed, by the file's own metadata."""
    max_decompressed_bytes: int = 16 * 2**30
    """A whole Parquet file, decompressed."""
    max_columns: int = 1000
    max_depth: int = 100
    """Objects and lists within one another in a JSON line."""
    max_digits: int = 1000
    """Of one number in a JSON line."""


MAX_ANSWER_CHARS = 100_000
"""No verifier reads more."""


DEFAULT_LIMITS = Limits()


def last_user_text(prompt: str | list[Message]) -> str:
    """The prompt itself, or the content of the last user message of a chat."""
    if isinstance(prompt, str):
        return prompt
    return next(message.content for message in reversed(prompt) if message.role == "user")


def apply_template(template: str | None, text: str) -> str:
    """`text` in the place of every `{prompt}`. Other braces stay as they are: templates are full of LaTeX."""
    return text if template is None else template.replace("{prompt}", text)


def tiny_arith_offenders(
    problems: Iterable[Problem], prompt_template: str | None = None, *, limit: int | None = None
) -> list[int]:
    """Rows whose prompt `builtin/tiny-arith` cannot read: it has characters outside its alphabet.

    The prompt is what the model would see: the last user message, with `prompt_template` around it. Stops after
    `limit` rows.
    """
    alphabet = frozenset(TINY_ARITH_ALPHABET)
    offenders: list[int] = []
    for problem in problems:
        if limit is not None and len(offenders) >= limit:
            break
        if not alphabet.issuperset(apply_template(prompt_template, last_user_text(problem.prompt))):
            offenders.append(problem.row)
    return offenders
