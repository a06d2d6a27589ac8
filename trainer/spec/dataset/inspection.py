"""Reading a whole data set: the report of everything that is wrong with it, and the rows of one that is right."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from trainer.spec.dataset import csv_rows, jsonl, parquet
from trainer.spec.dataset.problem import DEFAULT_LIMITS, Limits, Problem, Record, RowError
from trainer.spec.dataset.recognition import RecordError, problem_of
from trainer.spec.dataset.statistics import Statistics, StatisticsCounter
from trainer.spec.job import Columns

DataFormat = Literal["jsonl", "csv", "parquet"]

MAX_LISTED_ERRORS = 1000

PASSES_OVER_UNANSWERED: dict[DataFormat, bool] = {"parquet": True, "jsonl": False, "csv": False}
"""Whether rows without an answer are passed over and counted, or refused. Published sets in Parquet have some (4 of
MATH's 7,500) and nobody can mend such a file by hand; in a text file a missing answer is a slip to be told of."""
_AS_FOUND = Columns()

_SUFFIXES: dict[str, DataFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PARQUET_MAGIC = b"PAR1"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}


@dataclass(frozen=True)
class Inspection:
    """What a file holds and all that is wrong with it."""

    rows: int
    """Rows that are right."""
    errors: list[RowError]
    """The first `MAX_LISTED_ERRORS`, in the file's order."""
    error_count: int
    """All of them."""
    unanswered: list[RowError]
    """The first `MAX_LISTED_ERRORS` rows that were passed over for want of an answer."""
    unanswered_count: int
    sources: dict[str, dict[str, int]]
    """Which columns were taken, and for how many rows: {"prompt": {"question": 9}, "answer": {"answer": 9}}."""
    statistics: Statistics | None
    """None when no row is right."""

    @property
    def ok(self) -> bool:
        return self.error_count == 0


class DataError(ValueError):
    """A row of a data set cannot be used. `error` says which and why."""

    def __init__(self, error: RowError) -> None:
        where = f"line {error.line}: " if error.line else ""
        field = f"{error.field}: " if error.field else ""
        super().__init__(f"{where}{field}{error.msg}")
        self.error = error


def detect_format(filename: str, head: bytes) -> DataFormat:
    """The format of a file from its first bytes (a few KiB) and its name. ValueError that says what was expected."""
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    compressed = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
    if compressed:
        raise ValueError(f"{filename} is compressed ({compressed}); upload the JSONL, CSV or Parquet file itself")
    by_name = _SUFFIXES.get(Path(filename).suffix.lower())
    if by_name == "parquet":
        raise ValueError(f"{filename} is not a Parquet file: it does not begin with PAR1")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if by_name is not None:
        if by_name == "jsonl" and text.startswith(b"["):
            raise ValueError(f"{filename} is one JSON list; JSONL has one object on each line")
        return by_name
    if text.startswith(b"{"):
        return "jsonl"
    first_line = text.partition(b"\n")[0]
    if any(separator in first_line for separator in (b",", b";", b"\t")):
        return "csv"
    raise ValueError(f"{filename} is none of: JSONL (.jsonl), CSV (.csv), Parquet (.parquet)")


def inspect(
    source: Path | BinaryIO,
    format: DataFormat,
    columns: Columns = _AS_FOUND,
    *,
    skip_unanswered: bool | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Inspection:
    """Read the whole file, past every bad row, and report. Bad content is never raised; the disk's OSError is.

    A stream is read from where it is and left open; Parquet needs one that can seek. `skip_unanswered`: a row that is
    right but for a null or empty answer is no error but listed apart; None: as `PASSES_OVER_UNANSWERED` says.
    """
    skip_unanswered = PASSES_OVER_UNANSWERED[format] if skip_unanswered is None else skip_unanswered
    rows = 0
    errors = _Listed()
    unanswered = _Listed()
    statistics = StatisticsCounter()
    sources: dict[str, Counter[str]] = {"prompt": Counter(), "answer": Counter()}
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
        for read in _records(stream, format, columns, limits):
            if isinstance(read, RowError):
                errors.add([read])
                continue
            try:
                problem, prompt_column, answer_column = problem_of(read, columns)
            except RecordError as error:
                skipped = skip_unanswered and error.only_unanswered
                (unanswered if skipped else errors).add(_row_errors(read, error))
            else:
                rows += 1
                statistics.add(problem)
                sources["prompt"][prompt_column] += 1
                sources["answer"][answer_column] += 1
    if rows == 0 and errors.count == 0:
        without = " with an answer" if unanswered.count else ""
        errors.add([RowError(0, None, f"the file has no row{without}")])
    return Inspection(
        rows=rows,
        errors=errors.first,
        error_count=errors.count,
        unanswered=unanswered.first,
        unanswered_count=unanswered.count,
        sources={role: dict(counts) for role, counts in sources.items()},
        statistics=statistics.result(),
    )


def read_problems(
    path: Path,
    format: DataFormat,
    columns: Columns = _AS_FOUND,
    *,
    after: int = 0,
    skip_unanswered: bool | None = None,
    unanswered: list[int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Problem]:
    """The rows of a file with a row number above `after`, in order. DataError at the first that cannot be used.

    `skip_unanswered` as in `inspect`; the numbers of the rows that are passed over are appended to `unanswered`.
    """
    skip_unanswered = PASSES_OVER_UNANSWERED[format] if skip_unanswered is None else skip_unanswered
    with path.open("rb") as stream:
        for read in _records(stream, format, columns, limits, after):
            if isinstance(read, RowError):
                raise DataError(read)
            try:
                problem, _, _ = problem_of(read, columns)
            except RecordError as error:
                if skip_unanswered and error.only_unanswered:
                    if unanswered is not None:
                        unanswered.append(read.row)
                    continue
                raise DataError(_row_errors(read, error)[0]) from None
            yield problem


class _Listed:
    """All errors counted, the first `MAX_LISTED_ERRORS` kept."""

    def __init__(self) -> None:
        self.first: list[RowError] = []
        self.count = 0

    def add(self, errors: list[RowError]) -> None:
        self.count += len(errors)
        self.first += errors[: MAX_LISTED_ERRORS - len(self.first)]


def _row_errors(record: Record, error: RecordError) -> list[RowError]:
    return [RowError(record.line, problem.field, problem.msg) for problem in error.problems]


def _records(
    stream: BinaryIO, format: DataFormat, columns: Columns, limits: Limits, after: int = 0
) -> Iterator[Record | RowError]:
    match format:
        case "jsonl":
            return jsonl.records(stream, limits, after)
        case "csv":
            return csv_rows.records(stream, columns, limits, after)
        case "parquet":
            return parquet.records(stream, columns, limits, after)
