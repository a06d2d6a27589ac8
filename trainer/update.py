"""One optimizer update: the clipped surrogate over some rollouts, whatever the micro-batching, and an AdamW step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import RunError
from trainer.forward import Sequences, micro_batches, packed_positions, response_statistics
from trainer.losses import (
    LossInputs,
    LossStats,
    entropy_coefficient,
    importance_weights,
    loss_weights,
    policy_loss,
    top_entropy_mask,
)
from trainer.models import Policy
from trainer.spec.job import JobSpec, OptimSpec


@dataclass(frozen=True)
class Batch:
    """The rollouts of one update. Token tensors are packed in the order of the sequences, T = all response tokens."""

    sequences: Sequences
    advantages: Tensor
    """[N], one per rollout."""
    truncated: Tensor
    """bool [N]: no EOS came within the limit."""
    logp_old: Tensor
    """[T], under the weights that the step began with."""
    entropy_old: Tensor
    """[T], likewise."""
    logp_engine: Tensor
    """[T], as the engine that sampled them reported."""
    logp_reference: Tensor | None
    """[T], under the frozen reference policy; None without a KL term."""


def make_optimizer(policy: Policy, spec: OptimSpec) -> torch.optim.AdamW:
    """AdamW over float32 weights; weight decay on matrices only, as is usual."""
    named = [(name, p) for name, p in policy.model.named_parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": spec.weight_decay},
            {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=spec.lr,
        betas=(spec.adam_beta1, spec.adam_beta2),
    )


def learning_rate(spec: OptimSpec, step: int) -> float:
    """Linear warm-up over `warmup_steps`, then constant. `step` counts from 1."""
    return spec.lr * min(1.0, step / (spec.warmup_steps + 1))


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    spec: JobSpec,
    batch: Batch,
    *,
    step: int,
    compute_dtype: torch.dtype,
) -> tuple[LossStats, float]:
    """Take one optimizer step and return the loss statistics and the gradient norm before clipping.

    Every weight that normalises the loss is computed over the whole batch first, so that micro-batches only add up
    and the gradient is that of one big batch. The model stays in evaluation mode: dropout would make the policy that is
    updated another one than the policy that sampled. RunError `loss_not_finite` or `gradient_not_finite` leaves the
    weights as they were.
    """
    algorithm = spec.algorithm
    lengths = batch.sequences.response_lengths
    positions = packed_positions(lengths)
    rollout = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    keep = ~batch.truncated if algorithm.mask_truncated else None
    weight = loss_weights(algorithm.loss_reduction, lengths, spec.rollout.max_new_tokens, keep)[rollout]
    advantage = batch.advantages[rollout]
    token_mask = (
        None
        if algorithm.top_entropy_fraction is None
        else top_entropy_mask(batch.entropy_old, algorithm.top_entropy_fraction, counted=weight > 0)
    )
    importance = (
        None
        if algorithm.importance_correction == "none"
        else importance_weights(
            algorithm.importance_correction,
            batch.logp_old,
            batch.logp_engine,
            rollout,
            len(lengths),
            algorithm.importance_cap,
        )
    )
    mean_entropy = float(batch.entropy_old.double().mean()) if len(batch.entropy_old) else None
    bonus = entropy_coefficient(algorithm, mean_entropy)
    device = policy.device

    optimizer.zero_grad(set_to_none=True)
    collected: list[LossStats] = []
    for indices in micro_batches(batch.sequences, spec.optim.max_tokens_per_micro_batch):
        logp, entropy = response_statistics(
            policy, batch.sequences.select(indices), spec.rollout.temperature, compute_dtype
        )
        where = torch.cat([positions[i] for i in indices])

        def part(tensor: Tensor | None, where: Tensor = where) -> Tensor | None:
            return None if tensor is None else tensor[where].to(device)

        outputs = policy_loss(
            LossInputs(
                logp=logp,
                logp_old=batch.logp_old[where].to(device),
                advantage=advantage[where].to(device),
                weight=weight[where].to(device),
                entropy=entropy,
                logp_ref=part(batch.logp_reference),
                importance=part(importance),
                token_mask=part(token_mask),
            ),
            algorithm,
            bonus,
        )
        if not math.isfinite(outputs.loss.item()):
            raise RunError("loss_not_finite", f"the loss became {outputs.loss.item()} in step {step}", step=step)
        outputs.loss.backward()  # type: ignore[no-untyped-call]
        collected.append(outputs.stats)

    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), spec.optim.max_grad_norm).item()
    if not math.isfinite(norm):
        raise RunError("gradient_not_finite", f"the gradient's norm became {norm} in step {step}", step=step)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(spec.optim, step)
    optimizer.step()
    return LossStats.total(collected), norm


def optimizer_tensors(policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat named tensors (`<parameter>|exp_avg`), for a checkpoint without pickle."""
    names = {parameter: name for name, parameter in policy.model.named_parameters()}
    return {
        f"{names[parameter]}|{key}": value.detach().cpu().contiguous()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(policy: Policy, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = dict(policy.model.named_parameters())
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("|", 1)
        parameter = parameters[parameter_name]
        # AdamW keeps its step counter on the CPU and its moments beside the weights.
        optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
