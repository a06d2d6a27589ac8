"""Advantages: from the rewards of groups of rollouts to one number per rollout that its tokens are weighted with.

Owns the estimators (AsymGRPO's family, GRPO's normalised and Dr.GRPO's centred one), what "correct" means, and the
schedules of the exponents. Knows nothing of tokens, clipping or reductions: those are `trainer.losses`.
Everything is computed in float64 and returned in the dtype of the rewards.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from trainer.groups import Groups
from trainer.spec.algorithm import AlgorithmSpec, coefficient_at

ROUNDING_SPREAD = 4.0
"""Rewards of a group that differ by no more than so many units in the last place are equal. Dividing by their
standard deviation would blow rounding noise (0.1 + 0.2 against 0.3) up to a full-size advantage."""


class NotBinaryError(ValueError):
    """A reward other than 0 and 1 where the estimator knows right and wrong only."""


def asymmetric_advantages(
    rewards: Tensor,
    group_ids: Tensor,
    beta_pos: float,
    beta_neg: float,
    pos_scale: float = 1.0,
    neg_scale: float = 1.0,
    uniform_groups: Literal["zero", "keep"] = "zero",
) -> Tensor:
    """AsymGRPO, arXiv 2604.04894: the two channels of a group's reward, each modulated by an exponent of its own.

    With p the mean reward of the n rollouts that a group really has, and 0 < p < 1:

        A_i = +pos_scale * ((1 - p) / p) ** beta_pos     for r_i = 1
        A_i = -neg_scale * (p / (1 - p)) ** beta_neg     for r_i = 0

    A uniform group (p = 0 or 1) has no contrast: its advantages are 0, or with `uniform_groups="keep"` the limit for
    beta = 0, +pos_scale and -neg_scale, on which REINFORCE trains.

    rewards: float Tensor[N] in {0, 1}. group_ids: int Tensor[N], any order, any group sizes. Returns Tensor[N] in
    the dtype of the rewards. ValueError for any other reward, NaN, empty input, lengths that differ, coefficients
    that are not finite, negative scales, or exponents so large that an advantage overflows the dtype.
    """
    groups = _groups(rewards, group_ids)
    _require_binary(rewards)
    for name, value in {"beta_pos": beta_pos, "beta_neg": beta_neg}.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    for name, value in {"pos_scale": pos_scale, "neg_scale": neg_scale}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    if uniform_groups not in ("zero", "keep"):
        raise ValueError(f"uniform_groups must be 'zero' or 'keep', got {uniform_groups!r}")

    correct = groups.sum(rewards.double())
    wrong = groups.sizes - correct
    mixed = (correct > 0) & (wrong > 0)
    # (1 - p) / p is a ratio of two whole numbers, so the only roundings are this division and the power. Uniform
    # groups get the ratio 1, whose every power is the limit for beta = 0.
    odds = torch.where(mixed, wrong, 1.0) / torch.where(mixed, correct, 1.0)
    trained = mixed if uniform_groups == "zero" else torch.ones_like(mixed)
    positive = torch.where(trained, pos_scale * odds**beta_pos, 0.0)
    negative = torch.where(trained, neg_scale * odds**-beta_neg, 0.0)
    result = torch.where(rewards == 1, positive[groups.index], -negative[groups.index]).to(rewards.dtype)
    if not result.isfinite().all():
        raise ValueError(f"beta_pos {beta_pos} or beta_neg {beta_neg} makes an advantage overflow {rewards.dtype}")
    # -0.0 prints and compares oddly, and a channel of scale 0 has many.
    return result + 0.0


def group_norm_advantages(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """GRPO (arXiv 2402.03300): (r - mean) / std within the group, with the population std and no epsilon.

    For binary rewards this is `asymmetric_advantages` at 0.5 / 0.5. |A| is at most sqrt(n - 1) whatever the rewards;
    a uniform group, up to rounding of its rewards, is exactly 0. TRL and verl divide by the sample std plus an
    epsilon: theirs is ours times sqrt((n - 1) / n), up to that epsilon.

    rewards: float Tensor[N], any finite values. group_ids: int Tensor[N]. Returns Tensor[N] in the dtype of the
    rewards. ValueError for NaN or infinite rewards, empty input, lengths that differ.
    """
    groups = _groups(rewards, group_ids)
    spread, uniform = _spread(rewards, groups)
    # Measured from the group's lowest reward in units of its spread, so that neither a large common offset nor a
    # tiny spread costs digits.
    relative = _above_lowest(rewards, groups) / torch.where(uniform, 1.0, spread)[groups.index]
    centered = relative - groups.mean(relative)[groups.index]
    std = groups.mean(centered**2).sqrt()
    normalised = centered / torch.where(uniform, 1.0, std)[groups.index]
    return torch.where(uniform[groups.index], 0.0, normalised).to(rewards.dtype)


def mean_centered_advantages(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """Dr.GRPO (arXiv 2503.20783): r - mean within the group, not normalised. Uniform groups are exactly 0.

    rewards: float Tensor[N], any finite values. group_ids: int Tensor[N]. Returns Tensor[N] in the dtype of the
    rewards. ValueError for NaN or infinite rewards, empty input, lengths that differ.
    """
    groups = _groups(rewards, group_ids)
    _, uniform = _spread(rewards, groups)
    above = _above_lowest(rewards, groups)
    centered = above - groups.mean(above)[groups.index]
    return torch.where(uniform[groups.index], 0.0, centered).to(rewards.dtype)


def correct_rollouts(rewards: Tensor, success_threshold: float | None = None) -> Tensor:
    """Which rollouts are correct: reward at or above the threshold; without a threshold, reward exactly 1.

    rewards: float Tensor[N]. Returns bool Tensor[N]. ValueError for NaN or infinite rewards and empty input.
    """
    _require_rewards(rewards)
    return rewards == 1 if success_threshold is None else rewards >= success_threshold


def advantages(spec: AlgorithmSpec, rewards: Tensor, group_ids: Tensor, step: int) -> Tensor:
    """The advantages that a job's `algorithm` section asks for in training step `step` (the first is 1).

    rewards: the raw rewards, float Tensor[N]. The asymmetric estimator turns them into 0 and 1 by
    `success_threshold` when there is one, and refuses other values when there is none. The other two are defined for
    any reward and take the raw one: there the threshold only says which rollouts the diagnostics call correct.
    """
    if spec.estimator == "group_norm":
        return group_norm_advantages(rewards, group_ids)
    if spec.estimator == "mean_centered":
        return mean_centered_advantages(rewards, group_ids)
    if spec.beta_pos is None or spec.beta_neg is None:
        raise ValueError("the asymmetric estimator needs beta_pos and beta_neg")
    if spec.success_threshold is not None:
        rewards = correct_rollouts(rewards, spec.success_threshold).to(rewards.dtype)
    return asymmetric_advantages(
        rewards,
        group_ids,
        coefficient_at(spec.beta_pos, step),
        coefficient_at(spec.beta_neg, step),
        spec.pos_scale,
        spec.neg_scale,
        spec.uniform_groups,
    )


def _above_lowest(rewards: Tensor, groups: Groups) -> Tensor:
    values = rewards.double()
    return values - groups.minimum(values)[groups.index]


def _spread(rewards: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """float64 [G] the largest minus the smallest reward of each group; bool [G] whether that is only rounding."""
    values = rewards.double()
    spread = groups.maximum(values) - groups.minimum(values)
    magnitude = groups.maximum(values.abs())
    return spread, spread <= ROUNDING_SPREAD * torch.finfo(rewards.dtype).eps * magnitude


def _groups(rewards: Tensor, group_ids: Tensor) -> Groups:
    _require_rewards(rewards)
    if rewards.shape != group_ids.shape:
        raise ValueError(
            f"rewards and group_ids must have the same length, got {tuple(rewards.shape)} and {tuple(group_ids.shape)}"
        )
    return Groups.of(group_ids)


def _require_rewards(rewards: Tensor) -> None:
    if rewards.ndim != 1:
        raise ValueError(f"rewards must be one-dimensional, got shape {tuple(rewards.shape)}")
    if not rewards.is_floating_point():
        raise ValueError(f"rewards must be floating-point, got {rewards.dtype}")
    if rewards.numel() == 0:
        raise ValueError("rewards is empty: there is no rollout")
    if not rewards.isfinite().all():
        at = int((~rewards.isfinite()).nonzero()[0])
        raise ValueError(f"rewards must be finite, got {rewards[at].item()} at index {at}")


def _require_binary(rewards: Tensor) -> None:
    other = (rewards != 0) & (rewards != 1)
    if other.any():
        at = int(other.nonzero()[0])
        raise NotBinaryError(
            f"rewards must be 0 or 1, got {rewards[at].item()} at index {at}; "
            "algorithm.success_threshold turns other rewards into 0 and 1"
        )
