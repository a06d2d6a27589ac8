"""A checkpoint's model as one tar archive, streamed from its files: no copy on disk, constant memory.

Which files those are for which format is said by `api.history.formats`. The manifest that was hashed into the
checkpoint's row says which files there are. All of them are opened before the first byte is sent: a checkpoint that
retention deletes meanwhile is still sent whole.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.problems import Problem
from store.artifacts import Artifacts
from store.errors import NotFound, UnsafePath
from store.models import Checkpoint

MANIFEST = "manifest.json"
MODEL = "model"
"""The folder of a checkpoint that stands alone; the rest is what the trainer goes on from."""
MOST_FILES = 1000
CHUNK_BYTES = 2**20
_MOST_MANIFEST_BYTES = 2**20


@dataclass(frozen=True)
class Part:
    """One file of an archive: its path within the folder, and a way to read it once, in chunks."""

    path: str
    size: int
    chunks: Callable[[], Iterator[bytes]]

    @classmethod
    def of_content(cls, path: str, content: bytes) -> "Part":
        return cls(path, len(content), lambda: iter([content]))

    @classmethod
    def of_file(cls, path: str, file: BinaryIO, size: int) -> "Part":
        """OSError while it is read, when it turns out shorter than it was."""

        def chunks() -> Iterator[bytes]:
            left = size
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise OSError(f"{file.name} ends {left} bytes early")
                left -= len(chunk)
                yield chunk

        return cls(path, size, chunks)


class Archive:
    """Open files, to be streamed once, below a folder `name`."""

    def __init__(self, name: str, parts: Sequence[Part], written_at: float, opened: ExitStack) -> None:
        self._parts = [(_header(f"{name}/{part.path}", part.size, written_at), part) for part in parts]
        self._opened = opened
        content = sum(len(header) + part.size + _padding(part.size) for header, part in self._parts)
        self._end = 2 * tarfile.BLOCKSIZE + -(content + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE
        self.bytes = content + self._end

    def chunks(self) -> Iterator[bytes]:
        """The archive. OSError when a file turns out shorter than it was: then the answer breaks off."""
        for header, part in self._parts:
            yield header
            yield from part.chunks()
            yield b"\0" * _padding(part.size)
        yield b"\0" * self._end

    def close(self) -> None:
        self._opened.close()


class ArchiveResponse(StreamingResponse):
    """Sends an archive, and closes its files also when the reader goes away before the first byte."""

    media_type = "application/x-tar"

    def __init__(self, archive: Archive, filename: str) -> None:
        headers = {
            "Content-Length": str(archive.bytes),
            "Content-Disposition": f'attachment; filename="{filename}"',
        }
        super().__init__(archive.chunks(), headers=headers)
        self._archive = archive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._archive.close()


class ModelFiles:
    """The files of a checkpoint's model folder, as its manifest lists them."""

    def __init__(self, artifacts: Artifacts, checkpoint: Checkpoint) -> None:
        """FileNotFoundError when the checkpoint is gone; UnsafePath for names that lead out of its folder."""
        self._artifacts = artifacts
        self._folder = f"{checkpoint.path}/{MODEL}"
        with (artifacts.resolve(checkpoint.path) / MANIFEST).open("rb") as manifest:
            self.sizes = _model_files(manifest.read(_MOST_MANIFEST_BYTES), checkpoint)

    def open(self, path: str, opened: ExitStack) -> BinaryIO:
        """One of them, checked for its size. FileNotFoundError, UnsafePath."""
        # Through the artifact store, which follows no link out of it.
        file = opened.enter_context(self._artifacts.resolve(f"{self._folder}/{path}").open("rb"))
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != self.sizes[path]:
            raise FileNotFoundError(f"{self._folder}: {path} is not what was written")
        return file

    def part(self, path: str, opened: ExitStack) -> Part:
        return Part.of_file(path, self.open(path, opened), self.sizes[path])

    @property
    def folder(self) -> Path:
        return self._artifacts.resolve(self._folder)


def model_archive(artifacts: Artifacts, checkpoint: Checkpoint, name: str) -> Archive:
    """The checkpoint's model folder as it is, below a folder `name`.

    FileNotFoundError when the checkpoint's files are gone; UnsafePath for names that lead out of its folder.
    """
    with ExitStack() as opened:
        files = ModelFiles(artifacts, checkpoint)
        parts = [files.part(path, opened) for path in files.sizes]
        return Archive(name, parts, checkpoint.created_at.timestamp(), opened.pop_all())


@contextmanager
def missing_files(job_id: str, step: int) -> Iterator[None]:
    """A checkpoint whose files went between the look into the database and the look onto the disk is not there."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("checkpoint", f"{job_id}@{step}") from error
    except UnsafePath as error:
        raise Problem(500, "damaged", "the checkpoint's manifest names files outside of it") from error


def _model_files(text: bytes, checkpoint: Checkpoint) -> dict[str, int]:
    """Path within the model folder, and size, of each file that the manifest names there, in order."""
    if hashlib.sha256(text).hexdigest() != checkpoint.manifest_sha256:
        raise FileNotFoundError(f"{checkpoint.path}: the manifest is not the one that was recorded")
    files = [
        (PurePosixPath(*path.parts[1:]), entry["bytes"])
        for name, entry in json.loads(text)["files"].items()
        if (path := PurePosixPath(name)).parts[:1] == (MODEL,) and len(path.parts) > 1
    ]
    if not files or len(files) > MOST_FILES or any(".." in path.parts for path, _ in files):
        raise UnsafePath(f"{checkpoint.path}: no model folder that can be sent")
    return dict(sorted((str(path), size) for path, size in files))


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE


def _header(name: str, size: int, written_at: float) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, int(written_at), 0o644
    return member.tobuf(tarfile.PAX_FORMAT)
