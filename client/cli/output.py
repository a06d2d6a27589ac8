"""How commands speak: a table or JSON on stdout, remarks on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Columns as wide as they need to be when the output goes into a pipe; `empty` when there is no row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    count = 0
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
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
