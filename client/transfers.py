"""Bytes on their way: a file that tells how far it has been sent, an archive that is unpacked as it arrives."""

import asyncio
import concurrent.futures
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from client.errors import Unreachable

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have gone (or come) so far, and the bytes in all; None where nobody knows these."""


class CountedFile:
    """A file to be uploaded, read once in pieces, each of which is told. httpx asks it for its size and its start."""

    def __init__(self, file: BinaryIO, progress: Progress | None) -> None:
        self._file = file
        self._progress = progress
        self._sent = 0
        self._size = _size_of(file)

    @property
    def rewinds(self) -> bool:
        """Whether it can be sent a second time."""
        return self._size is not None

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._sent += len(chunk)
        if self._progress is not None and chunk:
            self._progress(self._sent, self._size)
        return chunk

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = self._file.seek(offset, whence)
        if whence == os.SEEK_SET:
            self._sent = place
        return place


@contextmanager
def to_send(file: str | Path | BinaryIO, progress: Progress | None) -> Iterator[tuple[CountedFile, str]]:
    """What is uploaded, and the name it goes by. A path is opened here, and closed."""
    if isinstance(file, str | Path):
        with Path(file).open("rb") as opened:
            yield CountedFile(opened, progress), Path(file).name
    else:
        yield CountedFile(file, progress), Path(str(getattr(file, "name", "data.jsonl"))).name


def _size_of(file: BinaryIO) -> int | None:
    """None for a pipe."""
    try:
        here = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError):
        return None
    return size


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Where to put what becomes `folder` in one step, once it is whole; nothing is left of what is not.

    FileExistsError where something is in the folder already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    arriving = folder.parent / f".{folder.name}.arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    try:
        yield arriving
        (whole,) = arriving.iterdir()  # the archive's one
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def unpack(chunks: Iterator[bytes], to: Path) -> None:
    """A tar archive below `to`. Unreachable where it breaks off; what had arrived stays."""
    try:
        with tarfile.open(fileobj=cast(BinaryIO, _Arriving(chunks)), mode="r|") as archive:
            archive.extractall(to, filter="data")
    except tarfile.ReadError as error:
        raise Unreachable("the checkpoint's archive broke off", detail=str(error)) from error


async def unpack_async(chunks: AsyncIterator[bytes], to: Path) -> None:
    """The same, in a thread: the disk does not hold up the event loop, and tarfile knows no other way to read."""
    loop = asyncio.get_running_loop()
    coming: list[concurrent.futures.Future[bytes]] = []

    async def following() -> bytes:
        return await anext(chunks, b"")

    def fetched() -> Iterator[bytes]:
        while True:
            coming[:] = [asyncio.run_coroutine_threadsafe(following(), loop)]
            if not (chunk := coming[0].result()):
                return
            yield chunk

    work = asyncio.ensure_future(asyncio.to_thread(unpack, fetched(), to))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        # The thread is told, and waited for: nothing may be written once the caller cleans up.
        while not work.done():
            for each in coming:
                each.cancel()
            await asyncio.wait([work], timeout=0.01)
        if not work.cancelled():
            work.exception()  # looked at, so that asyncio does not complain of it
        raise


class _Arriving:
    """What tarfile reads from: the chunks of an answer as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing > 0:
            self._left = self._left or next(self._chunks, b"")
            if not self._left:
                break
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)
