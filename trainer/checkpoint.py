"""What a checkpoint holds: everything that a run needs to go on as if it had never stopped.

    <run>/checkpoints/<step>/
        model/               a Hugging Face folder: config, safetensors, tokenizer; loads anywhere. Under LoRA the
                             adapter alone, as peft has it (trainer.models.adapter_folder)
        optimizer.safetensors
        state.json           what else the loop carries from step to step
        manifest.json        every file's size and SHA-256 (trainer.checkpoint_folder, which makes it whole or absent)

No random state is stored, since every draw of the trainer is a pure function of (seed, step, position).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer import checkpoint_folder
from trainer.checkpoint_folder import FORMAT as FORMAT
from trainer.checkpoint_folder import Written as Written
from trainer.checkpoint_folder import clear_interrupted as clear_interrupted
from trainer.checkpoint_folder import delete as delete
from trainer.checkpoint_folder import latest as latest
from trainer.checkpoint_folder import one_file
from trainer.checkpoint_folder import verify as verify
from trainer.errors import CheckpointError


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

    def fill(folder: Path) -> None:
        with one_file(folder / "model") as model:
            save_model(model)
        with one_file(folder / "optimizer.safetensors") as path:
            save_file(optimizer, path)
        with one_file(folder / "state.json") as path:
            path.write_text(json.dumps(state))

    return checkpoint_folder.write(checkpoints, step, fill)


def read_state(folder: Path) -> dict[str, Any]:
    """What the loop stored beside weights and optimizer. The folder has been verified."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def load(folder: Path) -> Loaded:
    """Verify and read a checkpoint. The model is left to the caller, at `model_dir`.

    CheckpointError for one that is not whole: also where a file was cut short before it was hashed.
    """
    step = verify(folder)
    try:
        return Loaded(step, folder / "model", load_file(folder / "optimizer.safetensors"), read_state(folder))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no readable checkpoint: {error}") from error
