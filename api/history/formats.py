"""In which forms a checkpoint's model can be had: which files each is made of.

as stored     the checkpoint's model folder; of LoRA the adapter with what finds its base again
huggingface   the whole model, as `AutoModelForCausalLM.from_pretrained` takes it; of LoRA merged. Also: merged
adapter       a LoRA adapter alone, as `PeftModel.from_pretrained` takes it
"""

import json
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from api.history.archive import Archive, ModelFiles, Part
from api.history.merging import Merged, Weights, as_file, float32_config
from api.history.safetensors_folder import SafetensorsFolder, UnreadableWeightsError, weight_files
from api.model_catalog import missing_because
from api.problems import Problem
from api.state import ApiState
from store.models import Checkpoint
from trainer.spec.model import parse_model_id

_ADAPTER_CONFIG = "adapter_config.json"
_BASE_JSON = "base.json"
_BASE = "base"
_MOST_JSON_BYTES = 2**20
_BESIDE = (".json", ".jinja", ".model", ".txt")
"""Configs and tokenizers; weights come from `Weights`."""
_MOST_FINGERPRINTS = 64
_fingerprints: dict[tuple[tuple[str, int, int], ...], str] = {}
"""By name, size and time of the files."""


class Format(StrEnum):
    HUGGINGFACE = "huggingface"
    ADAPTER = "adapter"
    MERGED = "merged"


def exported(state: ApiState, checkpoint: Checkpoint, name: str, wanted: Format) -> Archive:
    """The checkpoint in this form, below a folder `name`.

    FileNotFoundError and UnsafePath as `model_archive`; Problem 409 when it cannot be had in this form.
    """
    with ExitStack() as opened:
        files = ModelFiles(state.artifacts, checkpoint)
        is_adapter = _ADAPTER_CONFIG in files.sizes and "config.json" not in files.sizes
        if wanted is Format.ADAPTER:
            if not is_adapter:
                raise _impossible("it holds a whole model and no LoRA adapter: ask for huggingface")
            parts = _adapter(files, opened)
        elif is_adapter:
            try:
                parts = _merged(state, files, opened)
            except UnreadableWeightsError as error:
                raise _impossible(str(error)) from error
        else:
            parts = [files.part(path, opened) for path in files.sizes]
        return Archive(name, parts, checkpoint.created_at.timestamp(), opened.pop_all())


def _impossible(why: str) -> Problem:
    return Problem(409, "no-such-format", f"this checkpoint cannot be had in this format: {why}")


def _adapter(files: ModelFiles, opened: ExitStack) -> list[Part]:
    config = _json(files.open(_ADAPTER_CONFIG, opened))
    # What peft and the hub call it; of other sources the id stays as a word for people.
    config["base_model_name_or_path"] = config["base_model_name_or_path"].removeprefix("hf/")
    own = [path for path in files.sizes if "/" not in path and path not in (_ADAPTER_CONFIG, _BASE_JSON)]
    content = json.dumps(config, indent=2, sort_keys=True).encode()
    return [Part.of_content(_ADAPTER_CONFIG, content), *(files.part(path, opened) for path in own)]


def _merged(state: ApiState, files: ModelFiles, opened: ExitStack) -> list[Part]:
    weights, config, beside = _whole(state, files.folder, opened)
    size, chunks = as_file(weights)
    return [
        Part.of_content("config.json", float32_config(config)),
        *(Part.of_content(name, content) for name, content in sorted(beside.items())),
        Part("model.safetensors", size, lambda: chunks),
    ]


def _whole(state: ApiState, folder: Path, opened: ExitStack) -> tuple[Weights, dict[str, Any], dict[str, bytes]]:
    """A model's weights, its config, and the small files beside them; an adapter's over its base's, however deep."""
    weights_here = SafetensorsFolder([opened.enter_context(path.open("rb")) for path in weight_files(folder)])
    beside = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.suffix in _BESIDE and not path.name.endswith(".index.json")
    }
    described = beside.pop("config.json", None)
    if described is not None:
        config = json.loads(described)
        beside.pop("manifest.json", None)
        return Weights(weights_here, config), config, beside
    adapter = json.loads(beside.pop(_ADAPTER_CONFIG))
    fingerprint = beside.pop(_BASE_JSON, None)
    kept = folder / _BASE
    base_folder = kept if kept.is_dir() else _base_folder(state, adapter["base_model_name_or_path"])
    base, config, under = _whole(state, base_folder, opened)
    if fingerprint is not None and _fingerprint(base, base_folder) != json.loads(fingerprint)["sha256"]:
        raise UnreadableWeightsError(
            f"the weights of {adapter['base_model_name_or_path']} on the API's machine are not those that the adapter "
            "was trained on; ask for adapter and merge it yourself"
        )
    return Merged(base, weights_here, adapter), config, under | beside


def _base_folder(state: ApiState, model_id: str) -> Path:
    """Where the base lies on this machine."""
    source, name = parse_model_id(model_id)
    folder: Path | None = None
    if source == "builtin":
        made = state.settings.models_cache.glob(f"{name}-*/config.json")
        folder = max((file.parent for file in made), default=None)
    elif source == "path" and missing_because(model_id, state.settings) is None and state.settings.models_dir:
        folder = state.settings.models_dir / name
    if folder is None:
        raise UnreadableWeightsError(
            f"its base {model_id} is not on the API's machine; ask for adapter and merge it yourself"
        )
    return folder


def _fingerprint(base: Weights, folder: Path) -> str:
    """Of a base, which every byte of it has to be read for; known again as long as its files do not change."""
    seen = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in weight_files(folder))
    if seen not in _fingerprints:
        if len(_fingerprints) >= _MOST_FINGERPRINTS:
            _fingerprints.clear()
        _fingerprints[seen] = base.fingerprint()
    return _fingerprints[seen]


def _json(file: BinaryIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read(_MOST_JSON_BYTES))
    return found
