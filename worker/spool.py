"""What a trainer says while the database is away and the memory's share is used up: a file that nobody else ever sees.

It has no name from the moment it is made, so that nothing of it outlives the worker, however that ends: the attempt is
then lost too, and goes on from its last stored checkpoint. It lies in the worker's own home, not in the artifacts,
which may be a network file system.

It need not hold long outages: the trainer is suspended after two thirds of a lease without a renewal, so what it holds
is at most what is said until then.
"""

import json
import logging
import os
import struct
import tempfile
from pathlib import Path

from trainer.spec import failpoints
from trainer.spec.events import Event, parse_event

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")


class Spool:
    """First in, first out. Not thread-safe: the backlog's lock is held around every call."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """At most `max_bytes` on disk; nothing is made before something is put. 0: never anything."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._file: int | None = None
        self._written = 0
        self._read = 0
        self._broken = False

    @property
    def empty(self) -> bool:
        return self._read == self._written

    @property
    def bytes(self) -> int:
        """On disk, what was read back already included: it is given back when all was."""
        return self._written

    def put(self, said: Event | str) -> bool:
        """Append. False, and nothing is, when there is no room: the bound is reached or the disk takes no more."""
        content = (json.dumps(said) if isinstance(said, str) else said.model_dump_json()).encode()
        record = _LENGTH.pack(len(content)) + content
        if self._broken or self._written + len(record) > self._max_bytes:
            return False
        try:
            failpoints.hit("worker.spool")
            if self._file is None:
                self._file = self._make()
            done = 0
            while done < len(record):
                done += os.pwrite(self._file, record[done:], self._written + done)
        except OSError as error:
            # What was written before stays good; half a record behind it is never read.
            log.warning("cannot spool what the trainer says, it waits: %s", error)
            self._broken = True
            return False
        self._written += len(record)
        return True

    def get(self) -> tuple[Event | str, int]:
        """The oldest one and its size in bytes. IndexError when there is none."""
        if self._file is None or self.empty:
            raise IndexError("the spool is empty")
        (length,) = _LENGTH.unpack(os.pread(self._file, _LENGTH.size, self._read))
        content = os.pread(self._file, length, self._read + _LENGTH.size)
        self._read += _LENGTH.size + length
        if self.empty:
            self.close()
        return (json.loads(content) if content.startswith(b'"') else parse_event(content)), length

    def close(self) -> None:
        """Forget everything; the disk has it back."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._written, self._read, self._broken = None, 0, 0, False

    def _make(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        Path(name).unlink()
        return descriptor
