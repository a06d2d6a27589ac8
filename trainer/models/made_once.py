"""Folders that are made in place once, then reused: atomic, safe with concurrent makers, verified on every use."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)
_MANIFEST = "manifest.json"


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, made by `make(empty folder)` if it is not there yet or no longer what was made.

    It is written aside, synced and renamed, so that it is complete as soon as it has its name. One maker works at a
    time, across processes; the others wait for its result. A failed maker leaves nothing behind.
    """
    if _is_intact(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if _is_intact(folder):
            return folder
        if folder.exists():
            _log.warning("%s is damaged and is made again", folder)
            shutil.rmtree(folder)
        # A maker that was killed could not clean up; nobody else works here while the lock is held.
        for leftover in folder.parent.glob(f".{folder.name}.making-*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.making-", dir=folder.parent) as aside:
            making = Path(aside) / "folder"
            making.mkdir()
            make(making)
            files = sorted(path for path in making.rglob("*") if path.is_file())
            hashes = {str(path.relative_to(making)): _sha256(path) for path in files}
            (making / _MANIFEST).write_text(json.dumps(hashes, indent=1))
            for path in [*files, making / _MANIFEST, making]:
                _sync(path)
            making.rename(folder)
            _sync(folder.parent)
    return folder


def _is_intact(folder: Path) -> bool:
    try:
        hashes: dict[str, str] = json.loads((folder / _MANIFEST).read_text())
        return all(_sha256(folder / name) == expected for name, expected in hashes.items())
    except (OSError, json.JSONDecodeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("another process is making %s; waiting for it", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
