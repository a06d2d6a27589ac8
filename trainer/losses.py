"""The loss of one optimizer step as a sum over packed response tokens, and what is counted on the way.

Owns the clipped surrogate, the KL and entropy terms, the reductions and the optional corrections of the `algorithm`
section. Each is a function of 1-D tensors with one entry per response token (T of them), so padding never reaches it.

Everything that normalises or selects (`loss_weights`, `top_entropy_mask`) is computed once over all rollouts of the
optimizer step; the loss of a micro-batch is then a plain sum, and the sums of the micro-batches add up to the loss,
the gradient and the statistics of the whole step, however it was cut.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from typing import Literal

import torch
from torch import Tensor

from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.events import Metrics

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut to +-20 before the exponential, as verl does: past it a float32 product can become inf * 0."""


@dataclass(frozen=True)
class LossInputs:
    """The tokens of one micro-batch, each tensor [T]; only `logp` and `entropy` carry gradients."""

    logp: Tensor
    """Under the weights being trained."""
    logp_old: Tensor
    """Under the weights that the step began with."""
    advantage: Tensor
    weight: Tensor
    """`loss_weights(...)[rollout of the token]`; a token of weight 0 is in no term and in no statistic."""
    entropy: Tensor | None = None
    """Needed when the entropy bonus is on."""
    logp_ref: Tensor | None = None
    """Under the reference policy; needed when `kl_coef` is above 0."""
    importance: Tensor | None = None
    """From `importance_weights`."""
    token_mask: Tensor | None = None
    """bool: which tokens the surrogate is trained on, from `top_entropy_mask`."""


@dataclass(frozen=True)
class LossStats:
    """Sums of one micro-batch: 0-d float64 tensors on the loss's device, so that counting never waits for a GPU."""

    loss: Tensor
    updates: Tensor
    """How many optimizer updates the sums belong to; a micro-batch counts 0, `LossStats.total` makes it 1."""
    tokens: Tensor
    """Every token of weight above 0, computed or not: those of rollouts without a gradient need no pass."""
    tokens_computed: Tensor
    tokens_positive: Tensor
    """Tokens with an advantage above 0, the ones that the upper bound can clip."""
    tokens_negative: Tensor
    """Tokens with an advantage under 0, the ones that the lower bound can clip."""
    clipped_low: Tensor
    clipped_high: Tensor
    clipped_dual: Tensor
    kl_old: Tensor
    kl_ref: Tensor
    tokens_ref: Tensor
    ratio_max: Tensor
    """Largest exp(logp - logp_old); -inf when there is no token. The one field that combines by maximum."""

    def __add__(self, other: "LossStats") -> "LossStats":
        combined = {
            field.name: torch.maximum(self.ratio_max, other.ratio_max)
            if field.name == "ratio_max"
            else getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        return LossStats(**combined)

    @classmethod
    def total(cls, parts: Iterable["LossStats"]) -> "LossStats":
        """All micro-batches of one update, or all updates of one step, as one. No parts: an update without tokens."""
        total = reduce(add, parts, cls.empty())
        return replace(total, updates=total.updates.clamp(min=1.0))

    @classmethod
    def empty(cls) -> "LossStats":
        zero = torch.zeros((), dtype=torch.float64)
        return cls(**{f.name: zero for f in fields(cls)} | {"ratio_max": zero - math.inf})

    @staticmethod
    def to_tensor(parts: Sequence["LossStats"]) -> Tensor:
        """float64 [parts, fields]."""
        return torch.stack([torch.stack([getattr(part, f.name) for f in fields(part)]).cpu() for part in parts])

    @classmethod
    def from_tensor(cls, row: Tensor) -> "LossStats":
        """The part that a row of `to_tensor` was made from."""
        return cls(**dict(zip([f.name for f in fields(cls)], row, strict=True)))

    @classmethod
    def uncomputed(cls, counted: Tensor) -> "LossStats":
        """Of tokens that the loss has no gradient from and that went through no pass. counted: bool [T]."""
        return replace(cls.empty(), tokens=_count(counted))

    def metrics(self) -> Metrics:
        """`policy/...`: the loss as the mean over the updates, the clip fractions over all tokens of all updates, the
        rest over those that were computed."""
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}

        def share(part: str, whole: str) -> float | None:
            return values[part] / values[whole] if values[whole] else None

        return {
            "policy/loss": values["loss"] / values["updates"],
            "policy/clip_fraction_low": share("clipped_low", "tokens"),
            "policy/clip_fraction_high": share("clipped_high", "tokens"),
            "policy/clip_fraction_dual": share("clipped_dual", "tokens"),
            "policy/clip_fraction_negative": share("clipped_low", "tokens_negative"),
            "policy/clip_fraction_positive": share("clipped_high", "tokens_positive"),
            "policy/kl_old": share("kl_old", "tokens_computed"),
            "policy/kl_ref": share("kl_ref", "tokens_ref"),
            "policy/ratio_max": values["ratio_max"] if values["tokens_computed"] else None,
        }


@dataclass(frozen=True)
class LossOutputs:
    loss: Tensor
    """0-d, differentiable: this micro-batch's part of the optimizer step's loss. Add up, never average."""
    stats: LossStats


def loss_weights(
    reduction: Literal["token_mean", "sequence_mean", "fixed_length"],
    lengths: Tensor,
    max_new_tokens: int,
    keep: Tensor | None = None,
) -> Tensor:
    """The weight of each token of each rollout such that the reduction is the weighted sum over tokens.

    lengths: int [R], response tokens of ALL rollouts of the optimizer step. keep: bool [R], the rollouts not masked
    out (None: all); a masked rollout leaves the numerator and the denominator. Returns float64 [R].

        token_mean     sum over tokens / number of tokens
        sequence_mean  mean over the rollouts, that have tokens, of their mean over tokens
        fixed_length   sum over tokens / (number of rollouts * max_new_tokens), arXiv 2503.20783

    When nothing is left all weights are 0. ValueError for negative lengths, lengths over `max_new_tokens` or shapes
    that do not fit.
    """
    if lengths.ndim != 1 or lengths.is_floating_point():
        raise ValueError(f"lengths must be a one-dimensional tensor of integers, got {lengths.dtype} {lengths.shape}")
    if keep is None:
        keep = torch.ones_like(lengths, dtype=torch.bool)
    if keep.shape != lengths.shape or keep.dtype != torch.bool:
        raise ValueError(f"keep must be bool {tuple(lengths.shape)}, got {keep.dtype} {tuple(keep.shape)}")
    if ((lengths < 0) | (lengths > max_new_tokens)).any():
        raise ValueError(f"lengths must lie in 0..{max_new_tokens}, got {int(lengths.min())} to {int(lengths.max())}")
    kept = keep.double()
    if reduction == "token_mean":
        weights = kept / (kept * lengths).sum().clamp(min=1.0)
    elif reduction == "sequence_mean":
        counted = kept * (lengths > 0)
        weights = counted / (lengths.clamp(min=1) * counted.sum().clamp(min=1.0))
    elif reduction == "fixed_length":
        weights = kept / (kept.sum().clamp(min=1.0) * max_new_tokens)
    else:
        raise ValueError(f"unknown loss reduction {reduction!r}")
    return weights


def top_entropy_mask(entropy: Tensor, fraction: float, counted: Tensor | None = None) -> Tensor:
    """The tokens with the highest entropy, arXiv 2506.01939: bool [T], `fraction` of them rounded up.

    entropy: [T] of all rollouts of the optimizer step, under the weights that sampled them. counted: bool [T], the
    tokens that are in the loss at all (None: all). Tokens that tie with the last one in are in too, so the choice
    does not depend on the order. The mask acts on the surrogate only, and denominators keep all tokens, as there.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    if counted is None:
        counted = torch.ones_like(entropy, dtype=torch.bool)
    candidates = entropy[counted]
    if len(candidates) == 0:
        return counted
    threshold = candidates.topk(math.ceil(fraction * len(candidates))).values[-1]
    return counted & (entropy >= threshold)


def importance_weights(
    kind: Literal["token_truncated", "sequence_masked"],
    logp_old: Tensor,
    logp_engine: Tensor,
    rollout: Tensor,
    rollouts: int,
    cap: float,
) -> Tensor:
    """Corrects for an inference engine that sampled from slightly other probabilities than the trainer computes.

    token_truncated: min(pi_old / pi_engine, cap) for each token. sequence_masked: the product of these ratios over a
    rollout for all its tokens, or 0 for the whole rollout when it is over `cap`. Both as in TRL; verl's truncated and
    masked importance sampling.

    logp_old, logp_engine: [T]. rollout: int [T], which of the `rollouts` a token belongs to; a rollout's tokens must
    all be there. Returns [T] without gradient in the dtype of `logp_old`.
    """
    log_ratio = (logp_old - logp_engine).detach().double()
    if kind == "token_truncated":
        return log_ratio.clamp(max=math.log(cap)).exp().to(logp_old.dtype)
    if kind == "sequence_masked":
        log_ratios = torch.zeros(rollouts, dtype=torch.float64, device=log_ratio.device)
        log_ratios.index_add_(0, rollout, log_ratio)
        weights = torch.where(log_ratios <= math.log(cap), log_ratios.clamp(max=math.log(cap)).exp(), 0.0)
        return weights[rollout].to(logp_old.dtype)
    raise ValueError(f"unknown importance correction {kind!r}")


def entropy_coefficient(spec: AlgorithmSpec, entropy: float | None) -> float:
    """The entropy bonus's coefficient, given the mean entropy (nats) of the rollouts that the update trains on.

    Without `entropy_target` it is `entropy_coef`. With one the bonus is on, at `entropy_coef`, only while the entropy
    is below the target. It is a function of this step's rollouts alone, so a resumed run needs to remember nothing.
    """
    if spec.entropy_target is None:
        return spec.entropy_coef
    return spec.entropy_coef if entropy is not None and entropy < spec.entropy_target else 0.0


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """PPO's objective per token, to be maximised: min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage)


def k3(log_ratio: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(p || q) per token sampled from p, with log_ratio = log q - log p. Never below 0."""
    log_ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(log_ratio) - log_ratio


def policy_loss(inputs: LossInputs, spec: AlgorithmSpec, entropy_coef: float) -> LossOutputs:
    """The sum over one micro-batch's tokens of weight * (-surrogate * importance + kl_coef * KL - entropy_coef * H).

    The surrogate is PPO's with `clip_low` and `clip_high`; `dual_clip` c bounds it from below by c A where A < 0
    (arXiv 1912.09729). `entropy_coef` is what `entropy_coefficient` gave for the optimizer step. ValueError when a
    term's input is missing.
    """
    logp, advantage = inputs.logp, inputs.advantage
    counted = inputs.weight > 0
    log_ratio = (logp - inputs.logp_old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    surrogate = clipped_surrogate(ratio, advantage, spec.clip_low, spec.clip_high)
    dual_clipped = torch.zeros_like(counted)
    if spec.dual_clip is not None:
        floor = spec.dual_clip * advantage
        dual_clipped = (advantage < 0) & (surrogate < floor)
        surrogate = torch.where(advantage < 0, torch.maximum(surrogate, floor), surrogate)
    loss = -surrogate
    if inputs.importance is not None:
        loss = loss * inputs.importance
    if inputs.token_mask is not None:
        loss = torch.where(inputs.token_mask, loss, 0.0)

    kl_ref: Tensor | None = None
    if inputs.logp_ref is not None:
        kl_ref = k3(inputs.logp_ref - logp)
    if spec.kl_coef > 0:
        if kl_ref is None:
            raise ValueError("kl_coef is above 0, so the loss needs logp_ref")
        loss = loss + spec.kl_coef * kl_ref
    if entropy_coef > 0:
        if inputs.entropy is None:
            raise ValueError("the entropy bonus is on, so the loss needs the entropy")
        loss = loss - entropy_coef * inputs.entropy
    total = (loss * inputs.weight.to(loss.dtype)).sum()

    trained = counted if inputs.token_mask is None else counted & inputs.token_mask
    with torch.no_grad():
        stats = LossStats(
            loss=total.detach().double(),
            updates=torch.zeros_like(total, dtype=torch.float64),
            tokens=_count(counted),
            tokens_computed=_count(counted),
            tokens_positive=_count(trained & (advantage > 0)),
            tokens_negative=_count(trained & (advantage < 0)),
            clipped_low=_count(trained & (advantage < 0) & (ratio < 1.0 - spec.clip_low)),
            clipped_high=_count(trained & (advantage > 0) & (ratio > 1.0 + spec.clip_high)),
            clipped_dual=_count(trained & dual_clipped),
            kl_old=_sum(k3(log_ratio.double()), counted),
            kl_ref=_sum(torch.zeros_like(logp) if kl_ref is None else kl_ref, counted),
            tokens_ref=_count(counted) * (kl_ref is not None),
            ratio_max=torch.where(counted, ratio.double(), -math.inf).amax()
            if len(ratio)
            else torch.full_like(total, -math.inf, dtype=torch.float64),
        )
    return LossOutputs(total, stats)


def _count(mask: Tensor) -> Tensor:
    return mask.sum(dtype=torch.float64)


def _sum(values: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, values.double(), 0.0).sum()
