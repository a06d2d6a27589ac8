"""verl's checkpoints: `global_step_N` folders, written by verl, given a manifest and a name that Asym knows here.

    global_step_N/actor/...              weights and optimizer state, one shard a rank; what verl resumes from
    global_step_N/actor/huggingface/     config and tokenizer; in full fine-tuning the weights too, gathered, in float32
    global_step_N/data.pt                the data loader's position
    global_step_N/model                  link to actor/huggingface where it has weights: job/JOB_ID@STEP looks for it
    global_step_N/asym-manifest.json     every file's size

The manifest has no hashes of the files' content, which can be terabytes. A folder without one was not written whole.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from trainer.errors import CheckpointError

_PREFIX = "global_step_"
_MANIFEST = "asym-manifest.json"


class Found(NamedTuple):
    path: Path
    manifest_sha256: str
    bytes: int


def folder_of(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"{_PREFIX}{step}"


def step_of(folder: Path) -> int:
    """CheckpointError when this is no checkpoint of verl's that was written to its end."""
    number = folder.name.removeprefix(_PREFIX)
    if not (folder.name.startswith(_PREFIX) and number.isdecimal() and (folder / _MANIFEST).is_file()):
        raise CheckpointError(f"{folder} is no whole checkpoint of verl's")
    for name, size in json.loads((folder / _MANIFEST).read_text())["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise CheckpointError(f"{folder}: {name} is missing or has another size than when it was written")
    return int(number)


def latest(checkpoints: Path) -> Path | None:
    """The newest whole checkpoint; None where there is none."""
    numbers = (path.name.removeprefix(_PREFIX) for path in checkpoints.glob(f"{_PREFIX}*"))
    for step in sorted((int(number) for number in numbers if number.isdecimal()), reverse=True):
        try:
            step_of(folder_of(checkpoints, step))
        except CheckpointError:
            continue
        return folder_of(checkpoints, step)
    return None


def register(checkpoints: Path, step: int) -> Found | None:
    """Give the finished checkpoint of `step` its manifest and its link; None when verl wrote none at this step.

    To be called once verl has logged the step, which it does after writing.
    """
    folder = folder_of(checkpoints, step)
    if not folder.is_dir():
        return None
    exported = folder / "actor" / "huggingface"
    if any(exported.glob("*.safetensors")) and not (folder / "model").is_symlink():
        (folder / "model").symlink_to(exported.relative_to(folder), target_is_directory=True)
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != _MANIFEST
    }
    text = json.dumps({"step": step, "files": files}, indent=1)
    aside = folder / f".{_MANIFEST}"
    aside.write_text(text)
    aside.rename(folder / _MANIFEST)
    return Found(folder, hashlib.sha256(text.encode()).hexdigest(), sum(files.values()) + len(text))
