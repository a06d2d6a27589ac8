"""Hard links that keep files there while they are copied, whatever retention deletes meanwhile.

They lie in the artifact folder, so that they cost no space and no time, and go with the process that made them: those
of one that was killed are cleared away by the next.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def pins(artifacts: Path) -> Iterator[Path]:
    """A folder to link into; gone at the end."""
    folder = artifacts / "pins"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear(folder)
    mine = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
    lock = mine.with_suffix(".lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        mine.mkdir(mode=0o700)
        try:
            yield mine
        finally:
            shutil.rmtree(mine, ignore_errors=True)
            lock.unlink(missing_ok=True)


def pin(source: Path, destination: Path) -> None:
    """Link a file, or every file of a folder. FileNotFoundError when it is gone, or goes meanwhile."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                _link(path, destination / path.relative_to(source))
    else:
        _link(source, destination)


def _link(source: Path, destination: Path) -> None:
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    destination.hardlink_to(source)


def _clear(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a backup that is being made
                continue
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
