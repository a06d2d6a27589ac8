"""Adapter folders: LoRA in peft's own format, with what it takes to find the base again.

    adapter_config.json          peft's; base_model_name_or_path holds our id of the base model
    adapter_model.safetensors    A and B of every adapted layer, float32
    base.json                    the SHA-256 of the base's weights, for a base that is found by its id; or
    base/                        the base itself, where no id finds it: the checkpoint of another job, say

A folder may come from anywhere. Its config is read here and not by peft, whose options can name modules to import and
patterns to match: only what describes plain LoRA is taken over, everything else is refused.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.models.errors import ModelError
from trainer.models.policy import Model
from trainer.spec.model import ModuleName

if TYPE_CHECKING:
    from peft import PeftConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_BASE_FINGERPRINT = "base.json"
_BASE_FOLDER = "base"

_WITHOUT_EFFECT = frozenset(
    {
        *("auto_mapping", "inference_mode", "lora_dropout", "peft_type", "peft_version", "revision", "task_type"),
        # Follows from the kind of layer.
        "fan_in_fan_out",
        # Settings of methods that are themselves refused.
        *("loftq_config", "qalora_group_size", "runtime_config"),
    }
)


class AdapterConfig(BaseModel):
    """What an adapter_config.json says of a plain LoRA adapter, by peft's names."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    base_model_name_or_path: str
    r: Annotated[int, Field(ge=1)]
    lora_alpha: Annotated[float, Field(gt=0)]
    target_modules: Annotated[list[ModuleName], Field(min_length=1)]


def holds_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_config(model_id: str, folder: Path) -> AdapterConfig:
    """ModelError for an adapter that is more than plain LoRA, or whose config can't be read."""
    # peft takes seconds to import; whoever trains a whole model does without.
    from peft import LoraConfig

    try:
        raw = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{model_id}: the LoRA adapter's {CONFIG} can't be read ({error})") from error
    if not isinstance(raw, dict) or raw.get("peft_type") != "LORA":
        raise ModelError(f"{model_id}: {CONFIG} does not describe a LoRA adapter")
    plain = LoraConfig().to_dict()  # type: ignore[no-untyped-call]
    for key, value in raw.items():
        if key in AdapterConfig.model_fields or key in _WITHOUT_EFFECT or not value or value == plain.get(key):
            continue
        raise ModelError(f"{model_id}: the LoRA adapter sets {key} to {value!r}; only plain LoRA is read")
    try:
        return AdapterConfig.model_validate(raw)
    except ValidationError as error:
        where = error.errors()[0]
        name = ".".join(map(str, where["loc"]))
        raise ModelError(f"{model_id}: the LoRA adapter's {CONFIG} is wrong: {name}: {where['msg']}") from error


def read_weights(model_id: str, folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors in float32, by peft's names. Safetensors only."""
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{model_id}: the LoRA adapter has no {WEIGHTS}, the only adapter weights that are read")
    try:
        return {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{model_id}: the LoRA adapter's {WEIGHTS} can't be read ({error})") from error


def write(folder: Path, model_id: str, config: "PeftConfig", weights: dict[str, torch.Tensor]) -> None:
    """Config and weights of an adapter of the base `model_id`, to `folder`, which must not exist."""
    folder.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    described: dict[str, Any] = config.to_dict()
    # peft keeps a set here, whose order changes from process to process.
    described |= {"target_modules": sorted(described["target_modules"]), "base_model_name_or_path": model_id}
    (folder / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True))


def fingerprint(model: Model) -> str:
    """SHA-256 over the names, shapes and float32 values of all weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def write_fingerprint(folder: Path, sha256: str) -> None:
    (folder / _BASE_FINGERPRINT).write_text(json.dumps({"sha256": sha256}))


def check_fingerprint(model_id: str, folder: Path, sha256: str) -> None:
    """ModelError when the adapter in `folder` was trained on other weights than those of this fingerprint.

    An adapter from elsewhere, which brings no fingerprint, is taken at its word.
    """
    file = folder / _BASE_FINGERPRINT
    if not file.is_file():
        return
    try:
        expected = json.loads(file.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{model_id}: {file.name} of the LoRA adapter can't be read ({error})") from error
    if expected != sha256:
        raise ModelError(
            f"{model_id}: its weights are not those that the LoRA adapter was trained on (SHA-256 {sha256[:12]}, not "
            f"{str(expected)[:12]})"
        )


def kept_base(folder: Path) -> Path | None:
    """The base that an adapter folder brings with it."""
    base = folder / _BASE_FOLDER
    # A link could lead back to where it is.
    return base if base.is_dir() and not base.is_symlink() else None


def keep_base(base: Path, folder: Path) -> None:
    """Make the model in `base` part of the adapter folder."""
    shutil.copytree(base, folder / _BASE_FOLDER, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    # A checkpoint is never written to again, so that many may share a file; across file systems there is no sharing.
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
