"""Gradient checkpointing: a layer keeps its input alone and computes the rest again in the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.errors import RunError
from trainer.models import Policy


@contextmanager
def recomputed_layers(policy: Policy, wanted: bool) -> Iterator[None]:
    """Within it, forward passes with gradients keep the input of each layer only. RunError for a model that cannot.

    transformers does so for layers in training mode. Only the layers' own flag is set: what is inside them stays in
    evaluation mode, so that no dropout comes to life.
    """
    if not wanted:
        yield
        return
    if not policy.model.supports_gradient_checkpointing:
        raise RunError("no_gradient_checkpointing", f"{policy.model_id} has none: unset optim.gradient_checkpointing")
    policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    layers = [module for module in policy.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        policy.model.gradient_checkpointing_disable()


def recomputes_layers(policy: Policy) -> bool:
    """Whether `recomputed_layers` is in force."""
    return bool(policy.model.is_gradient_checkpointing)
