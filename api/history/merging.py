"""A LoRA adapter merged into its base while it is sent: a tensor at a time, in float32, no copy on disk, no torch.

The weights are those of the policy that was trained (`trainer.models.lora.merge_adapter`): base + alpha / rank * B A.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from api.history.safetensors_folder import (
    Floats,
    SafetensorsFolder,
    UnreadableWeightsError,
    float32_bytes,
    float32_header,
)

_PREFIX = "base_model.model."


class Weights:
    """Named float32 tensors: those of a whole model's folder."""

    def __init__(self, folder: SafetensorsFolder, config: dict[str, Any]) -> None:
        """config: the model's config.json."""
        self._folder = folder
        self.shapes = folder.shapes
        if config.get("tie_word_embeddings"):
            # Some folders have the shared weight twice.
            self.shapes.pop("lm_head.weight", None)

    def read(self, name: str) -> Floats:
        return self._folder.read(name)

    def fingerprint(self) -> str:
        """As `trainer.models.adapter_folder.fingerprint`: over names, shapes and float32 values."""
        digest = hashlib.sha256()
        for name, shape in self.shapes.items():
            digest.update(f"{name} {shape}\n".encode())
            digest.update(self.read(name).data)
        return digest.hexdigest()


class Merged(Weights):
    """A base with an adapter added to it."""

    def __init__(self, base: Weights, adapter: SafetensorsFolder, config: dict[str, Any]) -> None:
        """config: peft's adapter_config.json. UnreadableWeightsError when it adapts what the base does not have."""
        self._base = base
        self._adapter = adapter
        self.shapes = base.shapes
        self._scaling = config["lora_alpha"] / config["r"]
        self._transposed = bool(config.get("fan_in_fan_out"))
        modules = {
            name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            for name in adapter.shapes
            if name.endswith(".lora_A.weight")
        }
        missing = sorted(name for name in modules if f"{name}.weight" not in self.shapes)
        if missing or not modules:
            raise UnreadableWeightsError(f"the base's weights have no {missing[0] if missing else 'adapted layer'}")
        self._adapted = {f"{name}.weight": f"{_PREFIX}{name}" for name in modules}

    def read(self, name: str) -> Floats:
        weight = self._base.read(name)
        layer = self._adapted.get(name)
        if layer is None:
            return weight
        a, b = self._adapter.read(f"{layer}.lora_A.weight"), self._adapter.read(f"{layer}.lora_B.weight")
        delta = b @ a * self._scaling
        merged: Floats = (weight + (delta.T if self._transposed else delta)).astype("<f4")
        return merged


def as_file(weights: Weights) -> tuple[int, Iterator[bytes]]:
    """One safetensors file of all of them, in float32: its size and its bytes."""
    header = float32_header(weights.shapes)

    def chunks() -> Iterator[bytes]:
        yield header
        for name in weights.shapes:
            yield weights.read(name).astype("<f4", copy=False).tobytes()

    return len(header) + sum(map(float32_bytes, weights.shapes.values())), chunks()


def float32_config(config: dict[str, Any]) -> bytes:
    """config.json of a model whose weights are now float32, so that none is rounded when it is loaded."""
    said = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "float32"}
    return json.dumps(said, indent=2, sort_keys=True).encode()
