"""One file copied while it is hashed, and on the disk when that is said."""

import hashlib
import os
import stat
from pathlib import Path

from store.backup.manifest import File

_CHUNK = 2**20


def copy(source: Path, destination: Path, mode: int = 0o600) -> File:
    """Copy a regular file to a new one, its folders made; size and hash are those of what was written. OSError."""
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Neither through a link nor into a pipe, whatever lies in a backup that somebody brought.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file", str(source))
        hashed, count = hashlib.sha256(), 0
        with os.fdopen(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            while chunk := file.read(_CHUNK):
                out.write(chunk)
                hashed.update(chunk)
                count += len(chunk)
            out.flush()
            os.fsync(out.fileno())
    return File(bytes=count, sha256=hashed.hexdigest())


def measure(path: Path) -> File:
    """Size and hash of a file that is there. OSError."""
    with path.open("rb") as file:
        return File(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
