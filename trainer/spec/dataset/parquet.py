"""Parquet, read by row groups and in small batches, only the columns that matter.

The decompressed sizes that are checked are the file's own statement; a file that lies about them is stopped by the
size of the batches that come out.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from trainer.spec.dataset.problem import Limits, Record, RowError
from trainer.spec.dataset.recognition import columns_needed, header_problem
from trainer.spec.job import Columns

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH_ROWS = 64
_MIB = 2**20


def records(stream: BinaryIO, columns: Columns, limits: Limits, after: int = 0) -> Iterator[Record | RowError]:
    """Every row, as a record or as what is wrong with it. Rows up to `after` are passed over."""
    # Imported here: who validates JSONL and CSV only, or a spec, needs no pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream, pre_buffer=False)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        yield RowError(0, None, f"not a Parquet file that can be read: {_first_line(error)}")
        return
    wrong = _too_large(file.metadata, limits) or _wrong_columns(names, columns)
    if wrong:
        yield wrong
        return
    needed = columns_needed(columns)
    loaded = [name for name in names if name in needed]
    row = 0
    for group in range(file.metadata.num_row_groups):
        rows_in_group = file.metadata.row_group(group).num_rows
        if row + rows_in_group <= after:
            row += rows_in_group
            continue
        try:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=loaded, use_threads=False):
                for record in _rows_of(batch, row, limits):
                    row += 1
                    if row > after:
                        yield record
        except (pa.ArrowException, OSError) as error:
            yield RowError(row + 1, None, f"cannot be read from here on: {_first_line(error)}")
            return


def _too_large(metadata: "pq.FileMetaData", limits: Limits) -> RowError | None:
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    for what, size, limit in (
        ("columns", metadata.num_columns, limits.max_columns),
        ("rows", metadata.num_rows, limits.max_rows),
        ("MiB decompressed in one row group", max(sizes, default=0) // _MIB, limits.max_row_group_bytes // _MIB),
        ("MiB decompressed", sum(sizes) // _MIB, limits.max_decompressed_bytes // _MIB),
    ):
        if size > limit:
            return RowError(0, None, f"{size:,} {what}; the limit is {limit:,}")
    return None


def _wrong_columns(names: list[str], columns: Columns) -> RowError | None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return RowError(0, None, f"column {twice[:60]!r} is there twice")
    problem = header_problem(names, columns)
    return RowError(0, problem.field, problem.msg) if problem else None


def _rows_of(batch: "pa.RecordBatch", before: int, limits: Limits) -> Iterator[Record | RowError]:
    for index in range(batch.num_rows):
        row = before + index + 1
        one = batch.slice(index, 1)
        # get_total_buffer_size would count the whole batch's buffers; nbytes counts the slice.
        if one.nbytes > limits.max_line_bytes:
            yield RowError(row, None, f"longer than {limits.max_line_bytes:,} bytes")
            continue
        try:
            fields = one.to_pylist()[0]
        except UnicodeDecodeError as error:
            yield RowError(row, None, f"not UTF-8: {error.reason}")
        else:
            yield Record(row, row, fields)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
