"""One log out of many: every part's lines behind its name, on the terminal; bounded files of each part and of all.

As JSON, each line of the terminal and of the file of all is an object with its `process`: those of the API and the
workers are objects already, and what others say (the dashboard, the embedded servers) becomes one's `message`.
"""

import json
import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from rich.console import Console

FILE_BYTES, OLDER_FILES = 5_000_000, 2
"""A part's log file is set aside at this size; so many older ones are kept."""
NAME_WIDTH = 9
EVERYTHING = "all"
"""The name of the file that holds what the terminal shows."""
COLORS = (36, 33, 35, 32, 34, 96, 93, 95)
"""ANSI foregrounds, handed to the parts in the order in which they first speak."""


class CombinedLog:
    """Takes lines from any thread. A terminal or disk that fails is left out from then on, never an error: the parts
    must not stall because nobody can read what they say."""

    def __init__(self, folder: Path, terminal: TextIO, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._folder = folder
        self._terminal: TextIO | None = terminal
        console = Console(file=terminal)
        self._colored = console.is_terminal and not console.no_color
        self._colors: dict[str, int] = {}
        self._files: dict[str, RotatingFileHandler | None] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def __call__(self, name: str, line: str, **facts: object) -> None:
        """facts: what the line says, for programs."""
        with self._lock:
            together = self._together(name, line, facts)
            self._to_terminal(name, together)
            self._to_file(name, line)
            self._to_file(EVERYTHING, together)

    def close(self) -> None:
        with self._lock:
            for file in self._files.values():
                if file is not None:
                    file.close()
            self._files.clear()

    def _to_terminal(self, name: str, together: str) -> None:
        if self._terminal is None:
            return
        if self._colored and not self._as_json:
            color = self._colors.setdefault(name, COLORS[len(self._colors) % len(COLORS)])
            prefix, line = together[: NAME_WIDTH + 2], together[NAME_WIDTH + 2 :]
            together = f"\x1b[{color}m{prefix}\x1b[0m{line}"
        try:
            self._terminal.write(f"{together}\n")
            self._terminal.flush()
        except (OSError, ValueError):  # the reader of a pipe went away, or the terminal was closed
            self._terminal = None

    def _to_file(self, name: str, line: str) -> None:
        try:
            if name not in self._files:
                self._files[name] = None
                self._files[name] = _LineFile(self._folder / f"{name}.log")
            file = self._files[name]
            if file is not None:
                file.emit(logging.makeLogRecord({"msg": line}))
        except OSError as error:
            self._files[name] = None
            self._to_terminal(name, self._together(name, f"** no more lines in {self._folder / name}.log: {error}", {}))

    def _together(self, name: str, line: str, facts: Mapping[str, object]) -> str:
        return _as_object(name, line, facts) if self._as_json else f"{name:<{NAME_WIDTH}} | {line}"


def _as_object(name: str, line: str, facts: Mapping[str, object]) -> str:
    said: object = None
    if line.startswith("{"):
        try:
            said = json.loads(line)
        except ValueError:  # only looks like one
            said = None
    if not isinstance(said, dict):
        said = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "message": line}
    return json.dumps({"process": name, **said, **facts}, ensure_ascii=False)


class _LineFile(RotatingFileHandler):
    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        # Called from emit's except block, to swallow the error; the caller here wants to see it.
        raise
