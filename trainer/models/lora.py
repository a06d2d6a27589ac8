"""LoRA policies: a frozen model with an adapter that is trained; and adapters merged into their model.

peft makes the adapted layers; which layers those are, what an adapter folder may say (`adapter_folder`) and how
randomness is drawn is decided here.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from transformers import DynamicCache
from transformers.pytorch_utils import Conv1D

from trainer.models import adapter_folder
from trainer.models.errors import ModelError
from trainer.models.policy import Model, Policy
from trainer.spec.model import LoraSpec


class LoraPolicy(Policy):
    """A policy whose weights are those of `base`, frozen, and an adapter's, float32 and trained.

    `model` stays the transformers model, with adapted layers in the place of the plain ones, so that sampling, scoring
    and updating see no difference. base_dir: the folder to keep with the adapter; None for a base that its id finds.
    """

    def __init__(self, base: Policy, adapter: PeftModel, base_sha256: str, base_dir: Path | None) -> None:
        super().__init__(base.model_id, base.model, base.tokenizer, base.eos_ids, base.pad_id)
        self._adapter = adapter
        self._base_sha256 = base_sha256
        self._base_dir = base_dir

    def without_adapter(self) -> Policy:
        """The base as a policy: the same weights in the same memory, the adapter switched off during each pass."""
        return _WithoutAdapter(self, self._adapter)

    def dropout(self, *seed: int) -> AbstractContextManager[Any]:
        """The adapter's dropout, if it has any, drawn as a function of `seed` alone."""
        layers = [
            module
            for name, module in self.model.named_modules()
            if ".lora_dropout." in name and isinstance(module, torch.nn.Dropout)
        ]
        return _active(layers, seed, self.device) if layers else nullcontext()

    def load_adapter(self, folder: Path) -> None:
        """Put the adapter that `save_pretrained` wrote in the place of this one; ModelError when it does not fit."""
        if self._base_dir is None:
            adapter_folder.check_fingerprint(self.model_id, folder, self._base_sha256)
        _set_weights(self.model_id, self._adapter, adapter_folder.read_weights(self.model_id, folder))

    def save_pretrained(self, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
        """Write the adapter, how to find its base, and the tokenizer; `load_policy` of it gives the merged model."""
        weights = _weights(self._adapter, state)
        adapter_folder.write(folder, self.model_id, self._adapter.peft_config["default"], weights)
        if self._base_dir is None:
            adapter_folder.write_fingerprint(folder, self._base_sha256)
        else:
            adapter_folder.keep_base(self._base_dir, folder)
        self.tokenizer.save_pretrained(folder)

    def _merged(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """With the adapter added to what it adapts. As peft's own `get_delta_weight`, but of the weights given, which
        the layer itself may have a part of only (`trainer.sharding`)."""
        merged = {name.replace(".base_layer.", "."): weight for name, weight in weights.items() if ".lora_" not in name}
        for name, a in weights.items():
            adapted = name.removesuffix(".lora_A.default.weight")
            if adapted != name:
                layer: LoraLinear = self.model.get_submodule(adapted)
                delta = weights[f"{adapted}.lora_B.default.weight"] @ a * layer.scaling["default"]
                weight = f"{adapted}.weight"
                merged[weight] = merged[weight] + (delta.T if layer.fan_in_fan_out else delta)
        return merged


class _WithoutAdapter(Policy):
    def __init__(self, policy: LoraPolicy, adapter: PeftModel) -> None:
        super().__init__(policy.model_id, policy.model, policy.tokenizer, policy.eos_ids, policy.pad_id)
        self._adapter = adapter

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        cache: DynamicCache | None = None,
    ) -> torch.Tensor:
        with self._adapter.disable_adapter():
            return super().hidden_states(input_ids, attention_mask, position_ids, cache)


@contextmanager
def _active(layers: list[torch.nn.Dropout], seed: tuple[int, ...], device: torch.device) -> Iterator[None]:
    digest = hashlib.sha256(("lora dropout," + ",".join(map(str, seed))).encode()).digest()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(digest[:8], "little"))
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def add_adapter(base: Policy, spec: LoraSpec, seed: int, base_dir: Path | None) -> LoraPolicy:
    """A fresh adapter on `base`, which is frozen and must not be used on its own any more.

    A is a function of `seed` alone; B is 0, so that the policy begins as its base. ModelError when
    `spec.target_modules` name what is not there or can't be adapted.
    """
    sha256 = "" if base_dir is not None else adapter_folder.fingerprint(base.model)
    targets = _targets(base, spec.target_modules)
    return LoraPolicy(base, _attach(base, spec.rank, spec.alpha, spec.dropout, targets, seed), sha256, base_dir)


def merge_adapter(base: Policy, folder: Path) -> Policy:
    """`base` with the adapter in `folder` added to its float32 weights, all of which are trainable.

    ModelError when the folder holds no plain LoRA adapter, or that of another model.
    """
    config = adapter_folder.read_config(base.model_id, folder)
    weights = adapter_folder.read_weights(base.model_id, folder)
    # Before anything of that size is made: a config may claim what it likes.
    ranks = {len(tensor) for name, tensor in weights.items() if name.endswith(".lora_A.weight")}
    if ranks != {config.r}:
        raise ModelError(f"{base.model_id}: the LoRA adapter's rank is said to be {config.r} and is {sorted(ranks)}")
    adapter = _attach(base, config.r, config.lora_alpha, 0.0, _targets(base, config.target_modules), seed=0)
    _set_weights(base.model_id, adapter, weights)
    model: Model = adapter.merge_and_unload()
    model.requires_grad_(True)
    return Policy(base.model_id, model.eval(), base.tokenizer, base.eos_ids, base.pad_id)


def _attach(base: Policy, rank: int, alpha: float, dropout: float, targets: list[str], seed: int) -> PeftModel:
    layers = _adaptable(base.model)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type,unused-ignore]
        lora_dropout=dropout,
        target_modules=targets,
        # The layers of GPT-2, which keep their weight the other way around.
        fan_in_fan_out=any(isinstance(layers[name], Conv1D) for name in _matched(layers, targets)),
        task_type="CAUSAL_LM",
    )
    # peft draws A on the CPU, from the global generator, wherever the model lies.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        adapter: PeftModel = get_peft_model(base.model, config, autocast_adapter_dtype=False)
    return adapter.eval()


def _adaptable(model: Model) -> dict[str, torch.nn.Module]:
    """Every linear layer but the head, by its full name."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def _matched(names: Iterable[str], targets: list[str]) -> list[str]:
    """As peft matches targets: the whole name, or its end from a dot on."""
    return [name for name in names if any(name == target or name.endswith(f".{target}") for target in targets)]


def _targets(base: Policy, wanted: str | list[str]) -> list[str]:
    """What to hand to peft as `target_modules`: each matches layers that can be adapted, and nothing else."""
    layers = _adaptable(base.model)
    modules = [name for name, _ in base.model.named_modules()]
    kinds = sorted({name.rpartition(".")[2] for name in layers})
    if isinstance(wanted, str):
        return kinds if set(_matched(modules, kinds)) == set(layers) else sorted(layers)
    for target in wanted:
        found = _matched(modules, [target])
        if not found:
            raise ModelError(f"{base.model_id}: no module is called {target!r}; LoRA adapts {', '.join(kinds)}")
        if not layers.keys() >= set(found):
            raise ModelError(
                f"{base.model_id}: {target!r} is the head or no linear layer, which LoRA can't adapt here; it adapts "
                + ", ".join(kinds)
            )
    return sorted(set(wanted))


def _weights(adapter: PeftModel, state: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """By peft's names. state: in place of the model's own weights, by the names that the model has for them."""
    named = None if state is None else {f"base_model.model.{name}": weight for name, weight in state.items()}
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(adapter, named, save_embedding_layers=False)
    return weights


def _set_weights(model_id: str, adapter: PeftModel, weights: dict[str, torch.Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in _weights(adapter).items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    differing = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
    if differing:
        name = differing[0]
        raise ModelError(
            f"{model_id}: the LoRA adapter does not fit this model: {len(differing)} of its tensors differ, e.g. "
            f"{name} is {given.get(name, 'missing')} and should be {shapes.get(name, 'absent')}"
        )
    set_peft_model_state_dict(adapter, weights)
