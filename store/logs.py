"""How the API and the workers write their logs: lines for people, or with ASYM_LOG_FORMAT=json an object a line.

An object has `time` (RFC 3339, UTC), `level`, `logger`, `message`; `exception`, the traceback, where there is one; what
it is about as far as that is known (`request`, `job`, `attempt`, `hook`), which whoever works on it has bound to its
context; and `trace` and `span` where traces are made (store.tracing). Nothing else that a record may carry is written,
so nothing gets in by way of somebody's `extra`.
"""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from store import tracing

LINES = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_about: ContextVar[Mapping[str, str | int]] = ContextVar("asym_log_about", default={})  # noqa: B039 - never changed


def bind(**about: str | int) -> None:
    """From here on, in this context, lines are about this, too."""
    _about.set({**_about.get(), **about})


@contextmanager
def bound(**about: str | int) -> Iterator[None]:
    """Lines of this block are about this, too."""
    token = _about.set({**_about.get(), **about})
    try:
        yield
    finally:
        _about.reset(token)


def about(name: str) -> str | int | None:
    """What was bound under this name."""
    return _about.get().get(name)


def thread(target: Callable[..., object], *arguments: object, name: str) -> threading.Thread:
    """A daemon thread whose lines are about what those of its maker are about, here and now."""
    return threading.Thread(target=copy_context().run, args=(target, *arguments), name=name, daemon=True)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
            **tracing.current_ids(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


def set_up(form: Literal["text", "json"]) -> None:
    """From here on this process's log goes to stderr in this form, at INFO and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(LINES))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if form == "json":
        # What would otherwise be written past the log, over several lines.
        logging.captureWarnings(True)
        sys.excepthook = _uncaught
        threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt):
        logging.getLogger("uncaught").critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))
