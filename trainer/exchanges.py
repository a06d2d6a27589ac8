"""The exchanges of a pass whose weights are spread over the ranks: layers gathered, gradients scattered.

A pass is a long row of them, and between any two the memory of a rank's device may turn out to be too small. So all
meet before each (`trainer.ranks.World.meet`, between their CPUs) with the memory for it in hand: who has run out says
so there, the others leave the pass with an error instead of waiting for ever, and all begin again together
(`trainer.token_budget`, `trainer.sharding.forget_pass`).
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather, DefaultReduceScatter
from torch.distributed.tensor import DTensor, Partial

from trainer.ranks import World

Group = torch.distributed.ProcessGroup
Work = torch.distributed.Work


class AllGather(DefaultAllGather):
    """FSDP2's own, which allocates before it is called."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Group, async_op: bool = False
    ) -> Work | None:
        self._world.meet()
        return super().__call__(output_tensor, input_tensor, group, async_op)


class ReduceScatter(DefaultReduceScatter):
    """FSDP2's own, which allocates before it is called."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: Group,
        op: Any,  # noqa: ANN401 - torch names its type nowhere in public
        async_op: bool = False,
    ) -> Work:
        self._world.meet()
        return super().__call__(output_tensor, input_tensor, group, op, async_op)


def whole_weight(head: torch.nn.Module, world: World) -> Tensor:
    """The weight of a head that is a DTensor and no part of FSDP2; its gradient is added up over the ranks."""
    weight = head.weight
    if not isinstance(weight, DTensor):
        raise TypeError("the head is not spread over the ranks")
    shards = weight

    def meet(*_: Tensor) -> None:
        _find_room(shards, world)
        world.meet()

    meet()
    # Each rank's gradient is one addend; without saying so, each would keep its own.
    whole = shards.full_tensor(grad_placements=[Partial()])
    if whole.requires_grad:
        # Called with its gradient, before that is scattered.
        whole.register_hook(meet)  # type: ignore[no-untyped-call]
    return whole


def _find_room(shards: DTensor, world: World) -> None:
    """OutOfMemoryError now, and not in the middle of it, when gathering or scattering has no room: for the whole, and
    for another that is padded where the ranks' shards differ in size. What is found stays the allocator's, which gives
    it out at once."""
    copies = 1 if len(shards) % world.size == 0 else 2
    _ = [torch.empty(shards.shape, dtype=shards.dtype, device=shards.device) for _ in range(copies)]
