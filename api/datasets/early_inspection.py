"""Reads an upload while it arrives, so that its report is there when its last byte is."""

import asyncio
import io
import os
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from trainer.spec.dataset import DataFormat, Inspection, inspect
from trainer.spec.job import Columns

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STREAMED: frozenset[DataFormat] = frozenset({"jsonl", "csv"})
"""Formats that are read from the front; Parquet keeps its index at the end."""


class _GivenUpError(OSError):
    """The upload broke off; nobody waits for the report any more."""


class ArrivingFile(io.RawIOBase):
    """A file that another thread still appends to: reading waits for what is to come, up to its end."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._position = 0
        self._arrived = 0
        self._ended = False
        self._given_up = False
        self._changed = Condition()

    def grown(self, size: int) -> None:
        """So many bytes are readable through the path now."""
        with self._changed:
            self._arrived = size
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Whoever reads gets an OSError."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._ended or self._arrived > self._position)
            if self._given_up:
                raise _GivenUpError("the upload broke off")
            available = self._arrived - self._position
        with memoryview(buffer) as view:
            count = os.preadv(self._descriptor, [view[:available]], self._position)
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class EarlyInspection:
    """One upload's inspection, under way in a thread. Used from the event loop."""

    def __init__(self, path: Path, format: DataFormat, columns: Columns, limiter: CapacityLimiter) -> None:
        self.format = format
        self.columns = columns
        self._file = ArrivingFile(path)
        self._task = asyncio.create_task(to_thread.run_sync(self._inspect, limiter=limiter))

    def _inspect(self) -> Inspection:
        with self._file, io.BufferedReader(self._file) as stream:
            return inspect(stream, self.format, self.columns)

    def grown(self, size: int) -> None:
        self._file.grown(size)

    async def result(self) -> Inspection:
        """Once everything has arrived."""
        self._file.end()
        return await self._task

    async def give_up(self) -> None:
        """Returns when its thread has; that never waits for the client. Nothing to do after `result`."""
        self._file.give_up()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # it has been heard
