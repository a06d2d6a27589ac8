"""A policy whose weights, gradients and optimizer state are spread over the ranks, by PyTorch's FSDP2.

Each decoder layer is a group of its own, whose weights are whole only while it computes; what is left of the model
without its head is another. The head is no FSDP module, since nobody calls it (`trainer.logprobs` wants its weight): a
DTensor, gathered where it is asked for (`Policy.lm_head_weight`). Losses are sums whose weights were normalised over
the whole update, so gradients are added up over the ranks and never averaged.

Where no gradient is wanted, `whole` gathers the weights once, and ranks sample and score at their own pace. In between
every rank must make as many passes as the others (`trainer.sequences.in_step`).
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.exchanges import AllGather, ReduceScatter, whole_weight
from trainer.models import Policy
from trainer.ranks import World


def shard(policy: Policy, world: World) -> None:
    """Keep this rank's part of each weight only, cut along its first dimension. Every rank has the same weights now."""
    mesh = init_device_mesh(policy.device.type, (world.size,))
    head, embeddings = policy.model.get_output_embeddings(), policy.model.get_input_embeddings()
    tied = head.weight is embeddings.weight
    layers = [module for module in policy.backbone.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(policy.backbone, mesh=mesh, reshard_after_forward=False)
    for module in _modules(policy):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # the only kind that gloo has
        module.set_custom_all_gather(AllGather(world))
        module.set_custom_reduce_scatter(ReduceScatter(world))
    if tied:
        head.weight = embeddings.weight
    else:
        full = head.weight.detach()
        head.weight = torch.nn.Parameter(
            distribute_tensor(full, mesh, [Shard(0)], src_data_rank=None), requires_grad=head.weight.requires_grad
        )
    head.whole_weight = partial(whole_weight, head, world)


def is_sharded(policy: Policy) -> bool:
    return isinstance(policy.backbone, FSDPModule)


@contextmanager
def whole(policy: Policy) -> Iterator[None]:
    """Within it all weights of a sharded policy are there, on every rank, for passes without gradients; a rank may
    make as many as it likes. Entered by all ranks."""
    if not is_sharded(policy):
        yield
        return
    head, embeddings = policy.model.get_output_embeddings(), policy.model.get_input_embeddings()
    shards = head.weight
    tied = shards is embeddings.weight
    modules = _modules(policy)
    try:
        for module in modules:
            module.unshard()
        with torch.no_grad():
            head.weight = embeddings.weight if tied else torch.nn.Parameter(head.whole_weight(), requires_grad=False)
        with _without_hooks(policy):
            yield
    finally:
        head.weight = shards
        for module in modules:
            module.reshard()


def forget_pass(policy: Policy) -> None:
    """After an error in the middle of a pass of a sharded policy, forward or backward: as if it had not been begun."""
    # Before its first pass there is nothing to forget, and FSDP would stumble over that.
    if not isinstance(policy.backbone, FSDPModule) or policy.backbone._get_fsdp_state()._is_root is None:
        return
    policy.backbone.reset_iter_state()
    for module in _modules(policy):
        for group in module._get_fsdp_state()._fsdp_param_groups:
            for parameter in group.fsdp_params:
                # Gradients that were not yet scattered: the reset leaves them, and the next pass would add to them.
                if hasattr(parameter, "_unsharded_param"):
                    parameter._unsharded_param.grad = None
                parameter.unsharded_accumulated_grad = None


def _modules(policy: Policy) -> list[FSDPModule]:
    return [module for module in policy.backbone.modules() if isinstance(module, FSDPModule)]


@contextmanager
def _without_hooks(policy: Policy) -> Iterator[None]:
    """FSDP's hooks would scatter the weights again after each layer; doing nothing, they would still cost 0.15 ms for
    each layer and token."""
    modules = [module for module in policy.backbone.modules() if isinstance(module, FSDPModule)]
    kept = [(module, module._forward_pre_hooks, module._forward_hooks) for module in modules]
    for module in modules:
        module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        for module, before, after in kept:
            module._forward_pre_hooks, module._forward_hooks = before, after


def full_tensor(tensor: Tensor) -> Tensor:
    """`tensor`, gathered from all ranks if it is spread over them."""
    with torch.no_grad():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def own_part(full: Tensor, like: Tensor) -> Tensor:
    """Of `full`, which every rank has, what belongs to this one, if `like` is spread over the ranks."""
    full = full.to(like.device)
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def trained_state(policy: Policy, world: World) -> dict[str, Tensor] | None:
    """What `Policy.save_pretrained` needs of a sharded policy: its trained weights, gathered on the CPU of the leading
    rank; None of one that is whole. Called by all ranks."""
    if not is_sharded(policy):
        return None
    gathered: dict[str, Tensor] = {}
    of: dict[int, Tensor] = {}
    for name, tensor in policy.model.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad:
            continue
        if id(tensor) not in of:  # a tied head is one tensor in the file too
            full = full_tensor(tensor)
            of[id(tensor)] = full.cpu() if world.leads else full[:0]
        gathered[name] = of[id(tensor)]
    return gathered
