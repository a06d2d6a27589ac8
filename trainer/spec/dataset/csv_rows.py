"""CSV: a header line with the column names, then one record a row; quoted fields may hold line breaks.

The separator is the comma, or, where the header has none, the semicolon or the tab.
"""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from trainer.spec.dataset.lines import bounded_lines, decode
from trainer.spec.dataset.problem import Limits, Record, RowError
from trainer.spec.dataset.recognition import header_problem
from trainer.spec.job import Columns


def records(stream: BinaryIO, columns: Columns, limits: Limits, after: int = 0) -> Iterator[Record | RowError]:
    """Every row after the header, as a record or as what is wrong with it. Rows up to `after` are passed over."""
    # The limit is the whole process's, so it is only ever raised; `_Lines` keeps to ours.
    csv.field_size_limit(max(csv.field_size_limit(), limits.max_line_bytes))
    lines = _Lines(stream, limits.max_line_bytes)
    rows = _rows(lines)
    line, header = next(rows, (0, []))
    if isinstance(header, str):
        yield RowError(line, None, header)
        return
    names = [name.strip() for name in header]
    wrong = _wrong_header(line, names, columns, limits)
    if wrong:
        yield wrong
        return
    for row, (line, cells) in enumerate(rows, start=1):
        if row > limits.max_rows:
            yield RowError(line, None, f"more than {limits.max_rows:,} rows; the rest was not read")
            return
        if row <= after:
            continue
        if isinstance(cells, str):
            yield RowError(line, None, cells)
        elif len(cells) != len(names):
            yield RowError(line, None, f"has {len(cells)} fields where the header has {len(names)}")
        else:
            yield Record(row, line, dict(zip(names, cells, strict=True)))


def _wrong_header(line: int, names: list[str], columns: Columns, limits: Limits) -> RowError | None:
    if not names:
        return None  # an empty file: the caller says so
    if len(names) > limits.max_columns:
        return RowError(line, None, f"{len(names):,} columns; the limit is {limits.max_columns:,}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return RowError(line, None, f"column {twice[:60]!r} is there twice")
    problem = header_problem(names, columns)
    return RowError(line, problem.field, problem.msg) if problem else None


def _rows(lines: "_Lines") -> Iterator[tuple[int, list[str] | str]]:
    """(line on which the row begins, its cells or what is wrong with it); blank lines are passed over."""
    reader = csv.reader(lines, strict=True, delimiter=lines.delimiter())
    while True:
        lines.begin_row()
        first = lines.number + 1
        try:
            cells = next(reader, None)
        except _BadLineError as error:
            yield first, str(error)
            continue
        except csv.Error as error:
            unclosed = "unexpected end of data" in str(error)
            yield first, "not CSV: a quoted field is not closed" if unclosed else f"not CSV: {error}"
            continue
        if cells is None:
            return
        if cells:
            yield first, cells


class _BadLineError(ValueError):
    pass


class _Lines:
    """Lines of text for csv.reader. A class and not a generator: it has to go on after raising."""

    def __init__(self, stream: BinaryIO, max_row_bytes: int) -> None:
        self._lines = bounded_lines(stream, max_row_bytes)
        self._max_row_bytes = max_row_bytes
        self._row_bytes = 0
        self._peeked: bytes | None = None
        self.number = 0
        """Of the line that was given out last, 1-based."""

    def delimiter(self) -> str:
        """The separator that the header uses."""
        self._peeked = next(self._lines, b"")
        header = self._peeked or b""
        return next((found for found in (",", ";", "\t") if found.encode() in header), ",")

    def begin_row(self) -> None:
        self._row_bytes = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        peeked, self._peeked = self._peeked, None
        line = peeked if peeked else next(self._lines)
        self.number += 1
        if line is None:
            raise _BadLineError(f"longer than {self._max_row_bytes:,} bytes")
        self._row_bytes += len(line)
        if self._row_bytes > self._max_row_bytes:
            raise _BadLineError(f"longer than {self._max_row_bytes:,} bytes (is a quoted field left open?)")
        try:
            return decode(line)
        except ValueError as error:
            raise _BadLineError(str(error)) from None
