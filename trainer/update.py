"""One optimizer update: the clipped surrogate over some rollouts, whatever the micro-batching, and an AdamW step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import RunError
from trainer.forward import response_statistics, weights_cast_once
from trainer.losses import (
    LossInputs,
    LossStats,
    entropy_coefficient,
    importance_weights,
    loss_weights,
    policy_loss,
    top_entropy_mask,
)
from trainer.models import Policy, backward
from trainer.offloaded_adamw import OffloadedAdamW
from trainer.ranks import ALONE, World
from trainer.recompute import recomputed_layers
from trainer.sequences import Sequences, packed_positions, shares
from trainer.sharding import forget_pass, full_tensor, own_part
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.job import JobSpec, OptimSpec
from trainer.token_budget import TokenBudget


@dataclass(frozen=True)
class Batch:
    """The rollouts of one update. Token tensors are packed in the order of the sequences, T = all response tokens."""

    sequences: Sequences
    advantages: Tensor
    """[N], one per rollout."""
    truncated: Tensor
    """bool [N]: no EOS came within the limit."""
    logp_old: Tensor | None
    """[T], under the weights that the step began with; None where these are still the present ones."""
    entropy_old: Tensor | None
    """[T], likewise."""
    logp_engine: Tensor
    """[T], as the engine that sampled them reported."""
    logp_reference: Tensor | None
    """[T], under the frozen reference policy; None without a KL term."""


@dataclass(frozen=True)
class Updated:
    """What one update did and saw."""

    stats: LossStats
    gradient_norm: float
    """Before clipping."""
    logp: Tensor
    """[T], under the weights before the update, on the CPU; 0 for rollouts that have no gradient: they have no pass."""
    entropy: Tensor
    """[T], likewise."""


def make_optimizer(policy: Policy, spec: OptimSpec) -> torch.optim.Optimizer:
    """AdamW over float32 weights; weight decay on matrices only, as is usual."""
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    # On a CPU there is nowhere to offload to.
    kind = OffloadedAdamW if spec.offload and policy.device.type != "cpu" else torch.optim.AdamW
    return kind(groups, lr=spec.lr, betas=(spec.adam_beta1, spec.adam_beta2))


def learning_rate(spec: OptimSpec, step: int) -> float:
    """Linear warm-up over `warmup_steps`, then constant. `step` counts from 1."""
    return spec.lr * min(1.0, step / (spec.warmup_steps + 1))


def with_gradient(spec: AlgorithmSpec, advantages: Tensor) -> Tensor:
    """bool [N]: the rollouts that the loss can have a gradient from. Without a KL or entropy term a rollout with an
    advantage of 0 has none, and needs no backward pass."""
    return (advantages != 0) | (spec.kl_coef > 0 or spec.entropy_coef > 0)


def needs_statistics_first(spec: JobSpec) -> bool:
    """Whether an update's loss needs log-probs or entropies of all its tokens before its first micro-batch; otherwise
    an on-policy update takes those that its own forward pass gives. With dropout that pass is not the policy's."""
    algorithm, lora = spec.algorithm, spec.model.lora
    return (
        algorithm.importance_correction != "none"
        or algorithm.top_entropy_fraction is not None
        or algorithm.entropy_target is not None
        or (lora is not None and lora.dropout > 0)
    )


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    spec: JobSpec,
    batch: Batch,
    *,
    step: int,
    compute_dtype: torch.dtype,
    budget: TokenBudget,
    world: World = ALONE,
) -> Updated:
    """Take one optimizer step, with micro-batches that keep to `budget`.

    Every weight that normalises the loss is computed over the whole batch first, so that micro-batches only add up
    and the gradient is that of one big batch; rollouts without a gradient count in it and are not computed. The model
    stays in evaluation mode: dropout would make the policy that is updated another one than the policy that sampled
    (an adapter's, if the spec asks for it, is switched on by the caller). RunError `loss_not_finite` or
    `gradient_not_finite` leaves the weights as they were.

    The batch is the same on all ranks; each computes its share, and their gradients are one micro-batch's more.
    """
    algorithm = spec.algorithm
    lengths = batch.sequences.response_lengths
    rollout = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    keep = ~batch.truncated if algorithm.mask_truncated else None
    weight = loss_weights(algorithm.loss_reduction, lengths, spec.rollout.max_new_tokens, keep)[rollout]
    advantage = batch.advantages[rollout]
    token_mask, importance, mean_entropy = None, None, None
    if needs_statistics_first(spec):
        if batch.logp_old is None or batch.entropy_old is None:
            raise ValueError("this algorithm needs logp_old and entropy_old of the whole update")
        if algorithm.top_entropy_fraction is not None:
            token_mask = top_entropy_mask(batch.entropy_old, algorithm.top_entropy_fraction, counted=weight > 0)
        if algorithm.importance_correction != "none":
            importance = importance_weights(
                algorithm.importance_correction,
                batch.logp_old,
                batch.logp_engine,
                rollout,
                len(lengths),
                algorithm.importance_cap,
            )
        mean_entropy = float(batch.entropy_old.double().mean()) if len(batch.entropy_old) else None
    bonus = entropy_coefficient(algorithm, mean_entropy)
    device = policy.device

    trained = with_gradient(algorithm, batch.advantages)
    indices = trained.nonzero().flatten().tolist()
    of_rank = [[indices[i] for i in own] for own in shares(batch.sequences.select(indices), world.size)]
    own, others = of_rank[world.rank], [share for rank, share in enumerate(of_rank) if rank != world.rank]
    positions = packed_positions(lengths)
    no_tokens = torch.zeros(0, dtype=torch.int64)
    logp_before, entropy_before = torch.zeros(len(rollout)), torch.zeros(len(rollout))

    def add_up_gradients(max_tokens: int) -> list[LossStats]:
        optimizer.zero_grad(set_to_none=True)
        collected = [LossStats.empty()]
        sequences, *beside = [batch.sequences.select(share) for share in (own, *others)]
        for part in response_statistics(policy, sequences, spec.rollout.temperature, compute_dtype, max_tokens, beside):
            where = torch.cat([no_tokens, *(positions[own[i]] for i in part.rollouts)])
            logp_before[where], entropy_before[where] = part.logp.detach().cpu(), part.entropy.detach().cpu()

            def pick(tensor: Tensor | None, where: Tensor = where) -> Tensor | None:
                return None if tensor is None else tensor[where].to(device)

            logp_old = pick(batch.logp_old)
            outputs = policy_loss(
                LossInputs(
                    logp=part.logp,
                    logp_old=part.logp.detach() if logp_old is None else logp_old,
                    advantage=advantage[where].to(device),
                    weight=weight[where].to(device),
                    entropy=part.entropy,
                    logp_ref=pick(batch.logp_reference),
                    importance=pick(importance),
                    token_mask=pick(token_mask),
                ),
                algorithm,
                bonus,
            )
            if not math.isfinite(outputs.loss.item()):
                raise RunError("loss_not_finite", f"the loss became {outputs.loss.item()} in step {step}", step=step)
            backward([outputs.loss])
            collected.append(outputs.stats)
        return collected

    with recomputed_layers(policy, spec.optim.gradient_checkpointing), weights_cast_once(policy, compute_dtype):
        collected = budget.run(add_up_gradients, lambda: forget_pass(policy))
    for parameter in policy.model.parameters():
        # An update without any gradient still is one: AdamW's moments decay and move the weights.
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)

    norm = full_tensor(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), spec.optim.max_grad_norm)).item()
    if not math.isfinite(norm):
        raise RunError("gradient_not_finite", f"the gradient's norm became {norm} in step {step}", step=step)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(spec.optim, step)
    optimizer.step()
    computed = [LossStats.from_tensor(row) for rows in world.gather(LossStats.to_tensor(collected)) for row in rows]
    stats = LossStats.total([LossStats.uncomputed((weight > 0) & ~trained[rollout]), *computed])
    return Updated(stats, norm, world.sum(logp_before), world.sum(entropy_before))


def optimizer_tensors(policy: Policy, optimizer: torch.optim.Optimizer, world: World = ALONE) -> dict[str, Tensor]:
    """The optimizer's state as flat named tensors (`<parameter>|exp_avg`), for a checkpoint without pickle. Whole, on
    the leading rank; the others have to call it too, and get nothing."""
    names = {parameter: name for name, parameter in policy.model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            full = full_tensor(value)
            if world.leads:
                tensors[f"{names[parameter]}|{key}"] = full.cpu().contiguous()
    return tensors


def restore_optimizer(policy: Policy, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = dict(policy.model.named_parameters())
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("|", 1)
        parameter = parameters[parameter_name]
        # AdamW keeps its step counter on the CPU and its moments beside the weights, unless they are offloaded.
        stays = key == "step" or isinstance(optimizer, OffloadedAdamW)
        optimizer.state[parameter][key] = value if stays else own_part(value, parameter)
