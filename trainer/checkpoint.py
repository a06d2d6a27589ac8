"""Checkpoints: complete or absent, never in between, and checked before they are believed.

    <run>/checkpoints/<step>/
        model/               a Hugging Face folder: config, safetensors, tokenizer; loads anywhere. Under LoRA the
                             adapter alone, as peft has it (trainer.models.adapter_folder)
        optimizer.safetensors
        state.json           what else the loop carries from step to step
        manifest.json        every file's size and SHA-256

Written aside, every file and folder fsynced, then renamed into place: a folder with a step's name is whole. No
random state is stored, since every draw of the trainer is a pure function of (seed, step, position).
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.errors import CheckpointError

logger = logging.getLogger(__name__)

FORMAT = 1
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Written:
    """A checkpoint on disk. `manifest_sha256` stands for the content of all its files."""

    step: int
    path: Path
    manifest_sha256: str
    bytes: int


@dataclass(frozen=True)
class Loaded:
    step: int
    model_dir: Path
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def write(
    checkpoints: Path,
    step: int,
    *,
    save_model: Callable[[Path], None],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
) -> Written:
    """Write the checkpoint of `step`. OSError when the disk does not take it; what was there before stays as it was."""
    final = checkpoints / str(step)
    aside = checkpoints / f".writing-{step}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        save_model(aside / "model")
        save_file(optimizer, aside / "optimizer.safetensors")
        (aside / "state.json").write_text(json.dumps(state))
        files = {str(path.relative_to(aside)): path for path in sorted(aside.rglob("*")) if path.is_file()}
        manifest = {
            "format": FORMAT,
            "step": step,
            "files": {name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for name, path in files.items()},
        }
        text = json.dumps(manifest, indent=1)
        (aside / _MANIFEST).write_text(text)
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
    size = sum(entry["bytes"] for entry in manifest["files"].values()) + len(text)  # type: ignore[attr-defined]
    return Written(step, final, hashlib.sha256(text.encode()).hexdigest(), size)


def verify(folder: Path) -> int:
    """Check every file against the manifest and return the step. CheckpointError says which file differs and how."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
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


def read_state(folder: Path) -> dict[str, Any]:
    """What the loop stored beside weights and optimizer. The folder has been verified."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def load(folder: Path) -> Loaded:
    """Verify and read a checkpoint. The model is left to the caller, at `model_dir`."""
    step = verify(folder)
    return Loaded(
        step,
        folder / "model",
        load_file(folder / "optimizer.safetensors"),
        read_state(folder),
    )


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
