"""Carries what a trainer says into the database: every event and log line, once, in order, however long that takes.

Two threads read the pipes into a backlog; a third writes it, a batch per transaction. An unreachable database is
waited for: the backlog fills, then its spool on disk, then the pipes, then the trainer waits. What the attempt's end
means is decided by worker/attempt.py from `Recorder.heard`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from store import logs
from store.errors import LeaseLost
from trainer.spec import failpoints
from trainer.spec.events import Checkpoint, Done, Event, Failed, Log, Stopped, parse_event
from worker.backlog import Backlog
from worker.lines import Line, Readable, read_lines, readable
from worker.outage import UNREACHABLE
from worker.spool import Spool

log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 32 << 20
MAX_LOG_LINE_BYTES = 16 << 10
EVIDENCE_LINES = 20
_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)


class Record(Protocol):
    def __call__(self, events: list[Event], log_lines: list[str], batch: int, /) -> None:
        """Write one batch in one transaction, unless its number shows that it is there. LeaseLost, database errors."""


@dataclass
class Heard:
    """What the trainer said about its own end, and its last words."""

    done: bool = False
    stopped: bool = False
    failed: Failed | None = None
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=EVIDENCE_LINES))


class Recorder:
    def __init__(
        self, record: Record, *, spool: Spool, after_checkpoint: Callable[[], None], on_change: Callable[[], None]
    ) -> None:
        """`after_checkpoint` runs once a checkpoint's row is committed; `on_change` when `ended` becomes true."""
        self._record = record
        self._after_checkpoint = after_checkpoint
        self._on_change = on_change
        self._backlog = Backlog(spool)
        self._abandoned = threading.Event()
        self._ended = threading.Event()
        self._open_pipes = 2
        self._lock = threading.Lock()
        self.heard = Heard()
        self.heard_at = time.monotonic()
        """When the trainer last said anything at all."""
        self.lost = False
        """The lease is not ours any more."""
        self.refused: str | None = None
        """Why the database will never take what the trainer said."""
        self.complete = False
        """Everything the trainer said, to the end of both pipes, is in the database."""

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def start(self, stdout: Readable, stderr: Readable) -> None:
        """Read both to their end and close them."""
        for name, target, arguments in (
            ("trainer-events", self._read, (stdout, MAX_EVENT_BYTES, self._take_event)),
            ("trainer-log", self._read, (stderr, MAX_LOG_LINE_BYTES, self._take_log_line)),
            ("recorder", self._write, ()),
        ):
            logs.thread(target, *arguments, name=name).start()

    def remark(self, code: str, message: str) -> None:
        """Put a warning of the worker's own among what the trainer says, unless that would have to wait."""
        self._backlog.offer(Log(time=time.time(), level="warning", code=code, message=message), len(message))

    def abandon(self) -> None:
        """Record nothing more."""
        self._abandoned.set()
        self._backlog.abandon()

    def _read(self, stream: Readable, limit: int, take: Callable[[Line], bool]) -> None:
        try:
            for line in read_lines(stream, limit):
                self.heard_at = time.monotonic()
                if not take(line):
                    return
        finally:
            stream.close()
            with self._lock:
                self._open_pipes -= 1
                if self._open_pipes == 0:
                    self._backlog.close()

    def _take_log_line(self, line: Line) -> bool:
        text = readable(line)
        self.heard.last_lines.append(text)
        return self._backlog.put(text, len(text))

    def _take_event(self, line: Line) -> bool:
        if line.cut:
            message = f"the trainer wrote a line of {line.length} bytes; events over {MAX_EVENT_BYTES} are not read"
            warning = Log(time=time.time(), level="warning", code="event_too_long", message=message)
            return self._backlog.put(warning, len(message))
        try:
            event = parse_event(line.content)
        except ValidationError:
            shown = Line(line.content[:MAX_LOG_LINE_BYTES], line.length)
            return self._take_log_line(shown)
        if isinstance(event, Done):
            self.heard.done = True
        elif isinstance(event, Stopped):
            self.heard.stopped = True
        elif isinstance(event, Failed):
            self.heard.failed = event
        return self._backlog.put(event, line.length)

    def _write(self) -> None:
        try:
            number = 0
            while batch := self._backlog.take():
                number += 1
                events = [item.said for item in batch if not isinstance(item.said, str)]
                lines = [item.said for item in batch if isinstance(item.said, str)]
                if not self._write_batch(events, lines, number):
                    return
                failpoints.hit("worker.recorded")
                if any(isinstance(event, Checkpoint) for event in events):
                    self._after_checkpoint()
            self.complete = not self._abandoned.is_set()
        finally:
            self.abandon()
            self._ended.set()
            self._on_change()

    def _write_batch(self, events: list[Event], lines: list[str], number: int) -> bool:
        attempt = 0
        failpoints.hit("worker.recording")
        if any(isinstance(event, Checkpoint) for event in events):
            failpoints.hit("worker.checkpoint")
        while not self._abandoned.is_set():
            try:
                self._record(events, lines, number)
            except LeaseLost:
                self.lost = True
                return False
            except UNREACHABLE as error:
                if attempt == 0:
                    log.warning("cannot record, database unreachable: %s", error)
                    self._backlog.spool(True)
                self._abandoned.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
            except SQLAlchemyError as error:
                log.exception("the database refuses what the trainer said")
                self.refused = str(error)
                return False
            else:
                if attempt:
                    self._backlog.spool(False)
                return True
        return False
