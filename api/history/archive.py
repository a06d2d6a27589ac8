"""A checkpoint's model folder as one tar archive, streamed from its files: no copy on disk, constant memory.

The manifest that was hashed into the checkpoint's row says which files there are. All of them are opened before the
first byte is sent: a checkpoint that retention deletes meanwhile is still sent whole.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
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
class _Entry:
    header: bytes
    file: BinaryIO
    bytes: int

    @property
    def padding(self) -> int:
        return -self.bytes % tarfile.BLOCKSIZE


class Archive:
    """Open files, to be streamed once."""

    def __init__(self, entries: list[_Entry], opened: ExitStack) -> None:
        self._entries = entries
        self._opened = opened
        content = sum(len(entry.header) + entry.bytes + entry.padding for entry in entries)
        self._end = 2 * tarfile.BLOCKSIZE + -(content + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE
        self.bytes = content + self._end

    def chunks(self) -> Iterator[bytes]:
        """The archive. OSError when a file turns out shorter than it was: then the answer breaks off."""
        for entry in self._entries:
            yield entry.header
            left = entry.bytes
            while left:
                chunk = entry.file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise OSError(f"{entry.file.name} ends {left} bytes early")
                left -= len(chunk)
                yield chunk
            yield b"\0" * entry.padding
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


def model_archive(artifacts: Artifacts, checkpoint: Checkpoint, name: str) -> Archive:
    """The files of the checkpoint's model folder, below a folder `name`.

    FileNotFoundError when the checkpoint's files are gone; UnsafePath for names that lead out of its folder.
    """
    folder = artifacts.resolve(checkpoint.path)
    with ExitStack() as opened:
        files = _model_files((folder / MANIFEST).open("rb"), checkpoint)
        entries = []
        for path, size in files:
            # Through the artifact store, which follows no link out of it.
            file = opened.enter_context(artifacts.resolve(f"{checkpoint.path}/{MODEL}/{path}").open("rb"))
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                raise FileNotFoundError(f"{checkpoint.path}: {path} is not what was written")
            entries.append(_Entry(_header(f"{name}/{path}", size, checkpoint.created_at.timestamp()), file, size))
        return Archive(entries, opened.pop_all())


@contextmanager
def missing_files(job_id: str, step: int) -> Iterator[None]:
    """A checkpoint whose files went between the look into the database and the look onto the disk is not there."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("checkpoint", f"{job_id}@{step}") from error
    except UnsafePath as error:
        raise Problem(500, "damaged", "the checkpoint's manifest names files outside of it") from error


def _model_files(manifest: BinaryIO, checkpoint: Checkpoint) -> list[tuple[str, int]]:
    """Path within the model folder, and size, of each file that the manifest names there."""
    with manifest:
        text = manifest.read(_MOST_MANIFEST_BYTES)
    if hashlib.sha256(text).hexdigest() != checkpoint.manifest_sha256:
        raise FileNotFoundError(f"{checkpoint.path}: the manifest is not the one that was recorded")
    files = [
        (PurePosixPath(*path.parts[1:]), entry["bytes"])
        for name, entry in json.loads(text)["files"].items()
        if (path := PurePosixPath(name)).parts[:1] == (MODEL,) and len(path.parts) > 1
    ]
    if not files or len(files) > MOST_FILES or any(".." in path.parts for path, _ in files):
        raise UnsafePath(f"{checkpoint.path}: no model folder that can be sent")
    return sorted((str(path), size) for path, size in files)


def _header(name: str, size: int, written_at: float) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, int(written_at), 0o644
    return member.tobuf(tarfile.PAX_FORMAT)
