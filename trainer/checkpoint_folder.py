"""A checkpoint's folder: complete or absent, never in between, and checked before it is believed. Knows no torch.

    <run>/checkpoints/<step>/
        ...                  what the trainer keeps (trainer.checkpoint)
        manifest.json        every file's size and SHA-256

Written aside, every file and folder fsynced, then renamed into place: a folder with a step's name is whole. A disk that
is full leaves what was there before as it was.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import CheckpointError
from trainer.spec import failpoints

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True)
class Written:
    """A checkpoint on disk. `manifest_sha256` stands for the content of all its files."""

    step: int
    path: Path
    manifest_sha256: str
    bytes: int


def write(checkpoints: Path, step: int, fill: Callable[[Path], None]) -> Written:
    """Write the checkpoint of `step`; `fill` puts its files into the folder it is given.

    OSError when the disk does not take it; then nothing of it is left, and what was there before stays as it was.
    """
    final = checkpoints / str(step)
    aside = checkpoints / f".writing-{step}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        fill(aside)
        files = {str(path.relative_to(aside)): path for path in sorted(aside.rglob("*")) if path.is_file()}
        bytes_of = {name: path.stat().st_size for name, path in files.items()}
        entries = {name: {"bytes": bytes_of[name], "sha256": _sha256(path)} for name, path in files.items()}
        text = json.dumps({"format": FORMAT, "step": step, "files": entries}, indent=1)
        with one_file(aside / MANIFEST) as path:
            path.write_text(text)
        for path in [*aside.rglob("*"), aside]:
            _fsync(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    replaced = checkpoints / f".replaced-{step}"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    aside.rename(final)
    _fsync(checkpoints)
    shutil.rmtree(replaced, ignore_errors=True)
    failpoints.hit("checkpoint.written", path=final)
    size = sum(bytes_of.values()) + len(text)
    return Written(step, final, hashlib.sha256(text.encode()).hexdigest(), size)


@contextmanager
def one_file(path: Path) -> Iterator[Path]:
    """To be written within: one file of a checkpoint, or a folder that a library writes.

    OSError also where the library hides it: safetensors, written in Rust, tells a full disk as text.
    """
    failpoints.hit("checkpoint.file", path=path)
    try:
        yield path
    except OSError:
        raise
    except Exception as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    failpoints.hit("checkpoint.file", path=path)


def verify(folder: Path) -> int:
    """Check every file against the manifest and return the step. CheckpointError says which file differs and how."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"{folder} has format {manifest['format']}, this version reads {FORMAT}")
        for name, expected in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{folder}: {name} is missing")
            if path.stat().st_size != expected["bytes"]:
                raise CheckpointError(f"{folder}: {name} has {path.stat().st_size} bytes, not {expected['bytes']}")
            if _sha256(path) != expected["sha256"]:
                raise CheckpointError(f"{folder}: the content of {name} is not what was written (SHA-256 differs)")
        return int(manifest["step"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} is no readable checkpoint: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(checkpoints: Path, step: int) -> None:
    """Delete the checkpoint of `step`: first its name, so that a kill in between leaves no half of one."""
    aside = checkpoints / f".deleting-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    (checkpoints / str(step)).rename(aside)
    shutil.rmtree(aside)


def clear_interrupted(checkpoints: Path) -> None:
    """Delete what a process that was killed while writing or deleting a checkpoint left; for the only writer here."""
    for leftover in checkpoints.glob(".*-*"):
        shutil.rmtree(leftover)


def latest(checkpoints: Path) -> Path | None:
    """The checkpoint with the highest step that passes verification; None where there is none."""
    steps = sorted((int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()), reverse=True)
    for step in steps:
        folder = checkpoints / str(step)
        try:
            verify(folder)
        except CheckpointError as error:
            logger.warning("passing over a damaged checkpoint: %s", error)
            continue
        return folder
    return None
