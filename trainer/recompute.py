"""Gradient checkpointing: a layer keeps its inputs alone and computes the rest again in the backward pass.

transformers' own does so without a key-value cache, since a layer that is computed again would add to it again. Here
what a layer found in the cache is kept as one more of its inputs, so that prompts stay shared
(`trainer.shared_prompts`).
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.errors import RunError
from trainer.models import Policy


@contextmanager
def recomputed_layers(policy: Policy, wanted: bool) -> Iterator[None]:
    """Within it, forward passes with gradients keep the inputs of each layer only. RunError for a model that cannot.

    Random numbers, of an adapter's dropout, are drawn again as they were.
    """
    if not wanted:
        yield
        return
    layers = [module for module in policy.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers or not policy.model.supports_gradient_checkpointing:
        raise RunError("no_gradient_checkpointing", f"{policy.model_id} has none: unset optim.gradient_checkpointing")
    for layer in layers:
        # Not the module's call: FSDP's hooks, which gather the layer's weights, stay outside.
        layer.forward = partial(_recomputed, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _recomputed(
    forward: Callable[..., Any],
    *arguments: Any,  # noqa: ANN401 - those of the layer, whichever it is
    past_key_values: DynamicCache | None = None,
    **named: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    if not torch.is_grad_enabled():
        return forward(*arguments, past_key_values=past_key_values, **named)
    cache = None if past_key_values is None else _Replayed(past_key_values)
    output = checkpoint(partial(forward, past_key_values=cache, **named), *arguments, use_reentrant=False)
    if cache is not None:
        cache.forget_others()
    return output


class _Replayed:
    """A cache as one layer sees it: its first update is the cache's own, the same update again is one of the state that
    the first one met, and changes nothing."""

    def __init__(self, cache: DynamicCache) -> None:
        self._cache: DynamicCache | None = cache
        self._before: dict[int, Any] = {}

    def update(
        self,
        keys: Tensor,
        values: Tensor,
        layer: int,
        *more: Any,  # noqa: ANN401
        **named: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        if self._cache is None:
            again: tuple[Tensor, Tensor] = copy.copy(self._before[layer]).update(keys, values, *more, **named)
            return again
        self._before[layer] = copy.copy(self._cache.layers[layer])
        return self._cache.update(keys, values, layer, *more, **named)

    def forget_others(self) -> None:
        """Once the layer has been computed: what the other layers left need not be kept for it."""
        self._cache = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._cache, name)
