"""Answers that were made before, as bytes, up to a bound.

An answer's key holds all that it is made of: the team, the request, and of each job the revision of its metrics, which
is read from the database every time. So what is found is never out of date, and nobody finds another team's.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable

_OVERHEAD = 500
"""Bytes that an entry takes beside its body."""


class Answers:
    """The least recently used go first. Safe to share between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._bodies: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            body = self._bodies.get(key)
            if body is not None:
                self._bodies.move_to_end(key)
            return body

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep it, unless it alone would take more than a quarter of the room."""
        if len(body) > self._max_bytes // 4:
            return
        with self._lock:
            if (known := self._bodies.pop(key, None)) is not None:
                self._size -= len(known) + _OVERHEAD
            self._bodies[key] = body
            self._size += len(body) + _OVERHEAD
            while self._size > self._max_bytes:
                _, oldest = self._bodies.popitem(last=False)
                self._size -= len(oldest) + _OVERHEAD
