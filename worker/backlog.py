"""What a trainer said and the database has not yet: a queue with a bound, and the batches it is taken out in.

Beyond the bound the readers wait; while the database is away they need not, there is a spool on disk first.
"""

import threading
import time
from collections import deque
from typing import NamedTuple

from trainer.spec.events import Event
from worker.spool import Spool

MAX_ITEMS = 4000
MAX_BYTES = 64 << 20
BATCH_ITEMS = 200
BATCH_BYTES = 8 << 20
BATCH_SECONDS = 1.0


class Item(NamedTuple):
    said: Event | str
    """An event, or a log line."""
    bytes: int


class Backlog:
    """Written by the readers of the trainer's pipes, read by one recorder; order is kept.

    Full, it makes `put` wait: then nobody reads the pipe and the trainer itself waits. Nothing is dropped.
    """

    def __init__(self, spool: Spool, batch_seconds: float = BATCH_SECONDS) -> None:
        self._spool = spool
        self._batch_seconds = batch_seconds
        self._spooling = False
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._abandoned = False

    def put(self, said: Event | str, size: int) -> bool:
        """Append, when there is room. False: nobody will ever record it, so the caller need not read on."""
        with self._changed:
            while not self._abandoned:
                if self._has_room(size):
                    self._append(said, size)
                    return True
                # Behind what is spooled there is no other way in, or the order would be lost.
                if self._spooling and self._spool.put(said):
                    return True
                self._changed.wait()
            return False

    def offer(self, said: Event | str, size: int) -> bool:
        """Append if that needs no waiting; else False."""
        with self._changed:
            if self._abandoned or self._closed or not self._has_room(size):
                return False
            self._append(said, size)
            return True

    def spool(self, on: bool) -> None:
        """Whether what finds no room goes to the spool instead of waiting."""
        with self._changed:
            self._spooling = on
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        # A single item may be larger than the bound; it then goes in alone.
        fits = not self._items or (len(self._items) < MAX_ITEMS and self._bytes + size <= MAX_BYTES)
        return fits and self._spool.empty

    def _append(self, said: Event | str, size: int) -> None:
        self._items.append(Item(said, size))
        self._bytes += size
        self._changed.notify_all()

    def _unspool(self) -> None:
        """As much as a batch needs: order is kept because nothing else enters before the spool is empty."""
        while not self._spool.empty and len(self._items) < BATCH_ITEMS and self._bytes < BATCH_BYTES:
            self._append(*self._spool.get())

    def take(self) -> list[Item]:
        """The next batch: all that came within `batch_seconds` of its first item, at most so many items and bytes.

        Waits for a first item. Empty: closed and everything taken, or abandoned.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed or self._abandoned)
            self._unspool()
            deadline = time.monotonic() + self._batch_seconds
            self._changed.wait_for(
                lambda: (
                    self._closed or self._abandoned or len(self._items) >= BATCH_ITEMS or self._bytes >= BATCH_BYTES
                ),
                timeout=deadline - time.monotonic(),
            )
            batch: list[Item] = []
            size = 0
            while self._items and not self._abandoned and len(batch) < BATCH_ITEMS:
                if batch and size + self._items[0].bytes > BATCH_BYTES:
                    break
                batch.append(self._items.popleft())
                size += batch[-1].bytes
            self._bytes -= size
            self._unspool()
            self._changed.notify_all()
            return batch

    def close(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing more will be recorded: let everyone who waits go."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._bytes = 0
            self._spool.close()
            self._changed.notify_all()
