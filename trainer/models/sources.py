"""From a model id to a policy: which folder a model lies in, and how it gets there. Checks are folder.py's."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers.utils import logging as transformers_logging

from trainer.models import adapter_folder, smollm2, tiny_arith
from trainer.models.errors import ModelError
from trainer.models.folder import load_folder, probe
from trainer.models.made_once import made_once
from trainer.models.policy import Policy
from trainer.spec.model import LoraSpec, parse_model_id

if TYPE_CHECKING:
    from trainer.models.lora import LoraPolicy

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""Weights, configs, tokenizers; never pickles, never Python."""


def load_policy(
    model_id: str,
    *,
    model_dir: Path | None,
    cache_dir: Path,
    models_dir: Path | None,
    device: torch.device | str,
) -> Policy:
    """Load a model by its id (`trainer.spec.model`), in float32, in eval mode.

    A folder with a LoRA adapter gives its base with the adapter merged into it.

    model_dir: the folder that the caller has found itself (a checkpoint's, say); wins over whatever the id names, and
        is needed for job/...
    cache_dir: where the builtin models are made. models_dir: the only place where path/NAME is looked for.
    ModelError when the model is missing or cannot be trained here; ValueError for an id of no known form.
    """
    places = Places(cache_dir, models_dir, torch.device(device))
    return places.load(model_id, places.folder(model_id, model_dir))


def load_lora_policy(
    model_id: str,
    lora: LoraSpec,
    seed: int,
    *,
    adapter_dir: Path | None,
    model_dir: Path | None,
    cache_dir: Path,
    models_dir: Path | None,
    device: torch.device | str,
) -> "LoraPolicy":
    """The model, frozen, with an adapter: that of `adapter_dir` (the model folder of this run's checkpoint), else a
    fresh one drawn from `seed`. Everything else as in `load_policy`."""
    from trainer.models.lora import add_adapter

    places = Places(cache_dir, models_dir, torch.device(device))
    kept = None if adapter_dir is None else adapter_folder.kept_base(adapter_dir)
    folder = kept or places.folder(model_id, model_dir)
    # Other jobs' checkpoints may be gone by the time this adapter is read, and adapters are no base by their id.
    is_found_by_id = parse_model_id(model_id).source != "job" and not adapter_folder.holds_adapter(folder)
    policy = add_adapter(places.load(model_id, folder), lora, seed, None if is_found_by_id else folder)
    if adapter_dir is not None:
        policy.load_adapter(adapter_dir)
    probe(policy)
    return policy


@dataclass(frozen=True)
class Places:
    """Where models are looked for and loaded to."""

    cache_dir: Path
    models_dir: Path | None
    device: torch.device

    def folder(self, model_id: str, model_dir: Path | None) -> Path:
        ref = parse_model_id(model_id)
        if model_dir is not None:
            return model_dir
        if ref.source == "builtin":
            if ref.name == "tiny-arith":
                return made_once(self.cache_dir / f"tiny-arith-{tiny_arith.RECIPE}", tiny_arith.make_tiny_arith)
            return made_once(self.cache_dir / f"{ref.name}-{smollm2.RECIPE}", smollm2.make_smollm2)
        if ref.source == "path":
            return _below(model_id, ref.name, self.models_dir)
        if ref.source == "hf":
            return _from_hub(model_id, ref.name)
        raise ModelError(
            f"{model_id}: whose checkpoint this is only the service knows; give its folder with --model-dir"
        )

    def load(self, model_id: str, folder: Path) -> Policy:
        # What is written here ends in logs, not on a terminal.
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if not adapter_folder.holds_adapter(folder):
            return load_folder(model_id, folder, self.device)
        return self._merged(model_id, folder)

    def _merged(self, model_id: str, folder: Path) -> Policy:
        from trainer.models.lora import merge_adapter

        base_id = adapter_folder.read_config(model_id, folder).base_model_name_or_path
        kept = adapter_folder.kept_base(folder)
        if kept is not None:
            base = self.load(base_id, kept)
        else:
            try:
                base_folder = self.folder(base_id, None)
            except ValueError as error:
                raise ModelError(f"{model_id}: the base of its LoRA adapter can't be found: {error}") from error
            # Of whole models only, or an adapter could name itself.
            base = load_folder(base_id, base_folder, self.device)
            adapter_folder.check_fingerprint(base_id, folder, adapter_folder.fingerprint(base.model))
        policy = merge_adapter(base, folder)
        policy.model_id = model_id
        probe(policy)
        return policy


def _below(model_id: str, name: str, models_dir: Path | None) -> Path:
    """`models_dir`/`name`, whose files must all lie below models_dir, links followed."""
    if models_dir is None:
        raise ModelError(f"{model_id}: no folder for models is set; give it with --models-dir (ASYM_MODELS_DIR)")
    root = models_dir.resolve()
    folder = models_dir / name
    if not folder.is_dir():
        raise ModelError(f"{model_id}: there is no folder {name!r} in {models_dir}")
    for path in (folder, *folder.rglob("*")):
        if not path.resolve().is_relative_to(root):
            raise ModelError(f"{model_id}: {path.relative_to(models_dir)} is a link that leads out of {models_dir}")
    return folder


def _from_hub(model_id: str, repository: str) -> Path:
    try:
        # The operator allows a repository, not one of its revisions; nothing of it is ever run.
        folder = snapshot_download(repository, allow_patterns=_HUB_FILES)  # nosec B615
        return Path(folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{model_id}: it cannot be fetched from the hub, nor is it in the local hub cache ({error}); check its "
            "name, the network and, for a gated model, HF_TOKEN"
        ) from error
