"""Files of the platform: data sets by their hash, and one folder per attempt of a job. All under one root."""

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from store.errors import UnsafePath

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORMAT = re.compile(r"[a-z0-9]{1,16}")
_YOUNG_SECONDS = 10.0
"""A file that is received into is held a moment after it is made."""
_JOB_ID = re.compile(r"job_[a-z0-9]{1,64}")


class Incoming:
    """A file being received. Counts and hashes what is written; becomes visible only by `move_to`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes = 0

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.bytes += len(chunk)

    @property
    def sha256(self) -> str:
        """Of everything written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def flush(self) -> None:
        """Make everything written readable through `path`."""
        self._file.flush()

    def move_to(self, destination: Path) -> None:
        """Put the file in its place: complete and on disk, or not at all. Replaces a file of the same content."""
        self._file.flush()
        os.fsync(self._file.fileno())
        destination.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(destination)
        _sync_folder(destination.parent)


class Artifacts:
    """The artifact folder, shared by the API and every worker."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def dataset_path(self, sha256: str, format: str) -> Path:
        """datasets/ab/<sha256>.<format>; the first two digits keep folders small."""
        if not _SHA256.fullmatch(sha256) or not _FORMAT.fullmatch(format):
            raise UnsafePath(f"not a data set's hash and format: {sha256!r}, {format!r}")
        return self.root / "datasets" / sha256[:2] / f"{sha256}.{format}"

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A file to receive into, on the file system of the final place. Gone at the end unless moved."""
        folder = self._incoming
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # for as long as somebody receives into it
                yield Incoming(path, file)
        finally:
            path.unlink(missing_ok=True)

    def clear_incoming(self) -> None:
        """Delete what processes that were killed had received: files that nobody holds any more."""
        for path in self._incoming.glob("*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - path.stat().st_mtime > _YOUNG_SECONDS:
                        path.unlink()
            except (FileNotFoundError, BlockingIOError):  # moved into its place, or being received
                continue

    @property
    def _incoming(self) -> Path:
        return self.root / "incoming"

    @contextmanager
    def content_lock(self, sha256: str) -> Iterator[None]:
        """Nobody else stores or removes a data set's file of this content meanwhile."""
        path = self.root / "locks" / f"{sha256[:2]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def attempt_dir(self, job_id: str, attempt: int) -> Path:
        """The run directory of one attempt of a job; not created."""
        return self.root / attempt_path(job_id, attempt)

    def attempts_on_disk(self, job_id: str) -> list[int]:
        """The attempts of a job that have a run directory."""
        folder = self.attempt_dir(job_id, 1).parent
        return sorted(int(path.name) for path in _listed(folder) if path.name.isdecimal())

    def checkpoints_on_disk(self, job_id: str, attempts: Iterable[int]) -> set[str]:
        """Relative paths of all checkpoint folders of these attempts, half-written ones included."""
        folders = [self.attempt_dir(job_id, attempt) / "checkpoints" for attempt in attempts]
        return {str(path.relative_to(self.root)) for folder in folders for path in _listed(folder)}

    def resolve(self, relative: str) -> Path:
        """A stored relative path as a real one. UnsafePath for the root itself and what leaves it, links included."""
        path = PurePosixPath(relative)
        if not relative or "\0" in relative or path.is_absolute() or ".." in path.parts:
            raise UnsafePath(f"not a path inside the artifact folder: {relative!r}")
        resolved = (self.root / path).resolve()
        if resolved == self.root or not resolved.is_relative_to(self.root):
            raise UnsafePath(f"leads nowhere inside the artifact folder: {relative!r}")
        return resolved


def attempt_path(job_id: str, attempt: int) -> str:
    """An attempt's folder, relative to the artifact root."""
    if not _JOB_ID.fullmatch(job_id) or attempt < 1:
        raise UnsafePath(f"not a job's attempt: {job_id!r}, {attempt!r}")
    return f"jobs/{job_id}/attempts/{attempt}"


def job_path(job_id: str) -> str:
    """A job's folder, relative to the artifact root."""
    return str(PurePosixPath(attempt_path(job_id, 1)).parent.parent)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync_folder(folder: Path) -> None:
    # The rename itself is on disk only once the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
