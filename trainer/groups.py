"""Which rollouts answer the same prompt: group ids of any kind and order turned into dense indices.

Owns the arithmetic over groups of unequal size that advantages and metrics share; knows no formula of either.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Groups:
    """N rollouts in G groups, in any order and of any sizes."""

    index: Tensor
    """int64 [N]: which group a rollout is in, 0..G-1 by ascending group id."""
    sizes: Tensor
    """int64 [G]: how many rollouts each group really has, at least 1."""

    @classmethod
    def of(cls, group_ids: Tensor) -> "Groups":
        """From one integer id per rollout. ValueError when it is empty, not one-dimensional or not of integers."""
        if group_ids.ndim != 1:
            raise ValueError(f"group_ids must be one-dimensional, got shape {tuple(group_ids.shape)}")
        if group_ids.is_floating_point() or group_ids.is_complex() or group_ids.dtype == torch.bool:
            raise ValueError(f"group_ids must be integers, got {group_ids.dtype}")
        if group_ids.numel() == 0:
            raise ValueError("group_ids is empty: there is no rollout")
        _, index, sizes = torch.unique(group_ids, return_inverse=True, return_counts=True)
        return cls(index, sizes)

    @property
    def count(self) -> int:
        return len(self.sizes)

    def sum(self, values: Tensor) -> Tensor:
        """[N] -> [G]: the sum over each group's rollouts, in the dtype of `values`."""
        return torch.zeros(self.count, dtype=values.dtype, device=values.device).index_add_(0, self.index, values)

    def mean(self, values: Tensor) -> Tensor:
        """[N] floating point -> [G]: the mean over each group's rollouts."""
        return self.sum(values) / self.sizes

    def minimum(self, values: Tensor) -> Tensor:
        """[N] -> [G]: the smallest value of each group."""
        return self._extreme(values, "amin")

    def maximum(self, values: Tensor) -> Tensor:
        """[N] -> [G]: the largest value of each group."""
        return self._extreme(values, "amax")

    def _extreme(self, values: Tensor, reduce: str) -> Tensor:
        start = torch.zeros(self.count, dtype=values.dtype, device=values.device)
        return start.scatter_reduce_(0, self.index, values, reduce=reduce, include_self=False)
