"""AdamW that keeps its moments in the machine's memory instead of the GPU's, and steps there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class OffloadedAdamW(torch.optim.Optimizer):
    """torch's AdamW over copies of the weights on the CPU: gradients go there, weights come back, once a step.

    The GPU is left with weights and gradients, 8 bytes a parameter instead of 16; the price is 8 bytes a parameter over
    the bus, and a step at the CPU's pace. `state` is the CPU optimizer's, keyed by the weights themselves, so that a
    checkpoint is the one of an AdamW beside its weights. The weights' present values are copied here and from then on
    changed by `step` alone.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})
        self._copies: dict[Tensor, Tensor] = {
            # A copy even where the weights are on the CPU themselves.
            weight: weight.detach().to("cpu", copy=True).requires_grad_()
            for group in self.param_groups
            for weight in group["params"]
        }
        self._inner = torch.optim.AdamW(
            [{**group, "params": [self._copies[weight] for weight in group["params"]]} for group in self.param_groups],
            lr=lr,
            betas=betas,
        )
        for weight, copied in self._copies.items():
            self.state[weight] = self._inner.state[copied]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that the weights have; a weight without one stays as it is."""
        if closure is not None:
            raise ValueError("a closure is not supported")
        for own, inner in zip(self.param_groups, self._inner.param_groups, strict=True):
            inner["lr"] = own["lr"]
        for weight, copied in self._copies.items():
            copied.grad = None if weight.grad is None else weight.grad.to("cpu")
        self._inner.step()
        for weight, copied in self._copies.items():
            if copied.grad is not None:
                weight.copy_(copied)
                copied.grad = None
