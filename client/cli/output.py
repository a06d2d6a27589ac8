"""How commands speak: a table or JSON on stdout, remarks on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from client.transfers import Progress

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document (the API's own) and nothing else on stdout.")
]
AsJsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON lines, one object as each comes, and nothing else on stdout.")
]
STYLES = {
    "succeeded": "green", "alive": "green", "kept": "green",
    "failed": "red", "lost": "red", "cancelled": "yellow",
    "running": "cyan", "queued": "dim", "paused": "yellow", "pausing": "yellow", "cancelling": "yellow",
    "draining": "yellow", "deleted": "dim", "superseded": "dim",
}  # fmt: skip
"""Of statuses, in columns of this name or the next, on a terminal."""
STATE_COLUMNS = frozenset({"status", "state"})


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_json_line(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """One of a stream, seen at once by whoever reads it."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Columns as wide as they need to be when the output goes into a pipe; `empty` when there is no row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    count = 0
    for row in rows:
        cells = (
            Text(_cell(value), STYLES.get(str(value), "") if column in STATE_COLUMNS else "")
            for column, value in zip(columns, row, strict=True)
        )
        table.add_row(*cells)
        count += 1
    console = Console()
    if count == 0:
        remark(empty)
    elif console.is_terminal:
        console.print(table)
    else:
        # A pipe's reader wants each row on one line, and words whole.
        console = Console(width=100_000)
        for line in console.render_lines(table, console.options, pad=False):
            sys.stdout.write("".join(segment.text for segment in line).rstrip() + "\n")


@contextmanager
def transfer_bar(label: str) -> "Iterator[Progress | None]":
    """What to give an upload or download as its `progress`: a bar on stderr, None where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, size: bars.update(task, completed=done, total=size)


def remark(text: str) -> None:
    """For the person, not for the pipe."""
    print(text, file=sys.stderr)


def ago(moment: str | None) -> str:
    """`3 min ago`, of RFC 3339 text."""
    if not moment:
        return "–"
    from client.progress import duration

    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"{duration(max(seconds, 0.0))} ago"


def size(count: int) -> str:
    """Bytes for people: `1.4 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _cell(value: Any) -> str:  # noqa: ANN401 (any JSON value)
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
