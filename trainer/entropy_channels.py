"""The entropy of correct and of incorrect rollouts, what the advantages will do to each, and what the step really did.

The paper (arXiv 2604.04894) splits the policy's entropy into an informative channel, the tokens of correct rollouts,
and a spurious one, those of incorrect ones. Owns these diagnostics and their split by difficulty. They weigh every
response token of the step alike, whatever the loss reduction, and are summed exactly in float64: the same rollouts
give the same numbers in any order and in any micro-batching.

T is the number of response tokens of the step, packed; R the number of rollouts.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainer.groups import Groups
from trainer.spec.events import Metrics
from trainer.spec.metric_keys import DIFFICULTY_BUCKETS


@dataclass(frozen=True)
class StepTokens:
    """Whose the packed tokens are. ValueError when the parts do not fit together."""

    rollout: Tensor
    """int [T], 0..R-1: which rollout a token belongs to."""
    correct: Tensor
    """bool [R]."""
    advantage: Tensor
    """float [R]."""
    group_ids: Tensor
    """int [R]."""

    def __post_init__(self) -> None:
        if not self.correct.shape == self.advantage.shape == self.group_ids.shape:
            raise ValueError(
                "correct, advantage and group_ids must have one entry per rollout, got "
                f"{tuple(self.correct.shape)}, {tuple(self.advantage.shape)}, {tuple(self.group_ids.shape)}"
            )
        if self.correct.dtype != torch.bool:
            raise ValueError(f"correct must be bool, got {self.correct.dtype}")
        if len(self.rollout) and not 0 <= int(self.rollout.min()) <= int(self.rollout.max()) < len(self.correct):
            raise ValueError(f"rollout must lie in [0, {len(self.correct)})")

    @cached_property
    def informative(self) -> Tensor:
        """bool [T]: the token is of a correct rollout."""
        return self.correct[self.rollout]

    @cached_property
    def bucket(self) -> Tensor:
        """int64 [T]: the place in `DIFFICULTY_BUCKETS` of the accuracy p = c / n of the token's group."""
        groups = Groups.of(self.group_ids)
        n, c = groups.sizes, groups.sum(self.correct.long())
        # In whole numbers: 0, (0, 1/4], (1/4, 1/2], (1/2, 3/4], (3/4, 1), 1 are 0, 1, 2, 3, 4, 5.
        place = torch.where(c == n, 5, (4 * c + n - 1) // n)
        return place[groups.index][self.rollout]


def channel_metrics(tokens: StepTokens, logp: Tensor, entropy: Tensor) -> Metrics:
    """The entropy of each channel and its predicted pull, from the policy that the step began with.

    logp, entropy: float [T], nats. A mean over no tokens is None, never 0.

    The drives: c_t = (logp_t - mean logp) (A_t - mean A), means over all T tokens; a channel's drive is minus the sum
    of its c_t over T. They add up to -Cov(logp, A), the paper's first-order predictor of the change of entropy per
    unit step. A channel without tokens pulls with exactly 0; without any tokens the drives are None.
    """
    _require_packed(tokens, logp=logp, entropy=entropy)
    informative = tokens.informative
    metrics: Metrics = {
        "entropy/policy": _mean(entropy),
        "entropy/informative": _mean(entropy[informative]),
        "entropy/spurious": _mean(entropy[~informative]),
        "entropy/informative_tokens": int(informative.sum()),
        "entropy/spurious_tokens": int((~informative).sum()),
        "entropy/drive_informative": None,
        "entropy/drive_spurious": None,
    }
    total = len(entropy)
    if total:
        advantage = tokens.advantage.double()[tokens.rollout]
        covariance = (logp.double() - _sum(logp) / total) * (advantage - _sum(advantage) / total)
        metrics["entropy/drive_informative"] = 0.0 - _sum(covariance[informative]) / total
        metrics["entropy/drive_spurious"] = 0.0 - _sum(covariance[~informative]) / total
    return metrics | {f"entropy/bucket/{name}": value for name, value in _by_bucket(tokens, entropy).items()}


def change_metrics(
    tokens: StepTokens, logp_before: Tensor, logp_after: Tensor, entropy_before: Tensor, entropy_after: Tensor
) -> Metrics:
    """What the step's updates did to the same tokens: `entropy/realised_*`, `logprob/gain_*`, after minus before.

    All [T], nats. Means over a channel's tokens; None when it has none. A gain of the correct rollouts near or under
    0 is lazy likelihood displacement. By difficulty too: `logprob/gain/bucket/*` over all tokens of its groups.
    """
    _require_packed(
        tokens,
        logp_before=logp_before,
        logp_after=logp_after,
        entropy_before=entropy_before,
        entropy_after=entropy_after,
    )
    informative = tokens.informative
    gain = logp_after.double() - logp_before.double()
    change = entropy_after.double() - entropy_before.double()
    metrics: Metrics = {
        "entropy/realised_informative": _mean(change[informative]),
        "entropy/realised_spurious": _mean(change[~informative]),
        "logprob/gain_correct": _mean(gain[informative]),
        "logprob/gain_incorrect": _mean(gain[~informative]),
    }
    return metrics | {f"logprob/gain/bucket/{name}": value for name, value in _by_bucket(tokens, gain).items()}


def rollout_entropies(tokens: StepTokens, entropy: Tensor) -> list[float | None]:
    """Mean entropy over each rollout's tokens, nats; None for an empty response. One entry per rollout."""
    _require_packed(tokens, entropy=entropy)
    rollouts = len(tokens.correct)
    sums = torch.zeros(rollouts, dtype=torch.float64, device=entropy.device)
    sums.index_add_(0, tokens.rollout, entropy.double())
    lengths = torch.bincount(tokens.rollout, minlength=rollouts)
    return [total / n if n else None for total, n in zip(sums.tolist(), lengths.tolist(), strict=True)]


def _by_bucket(tokens: StepTokens, values: Tensor) -> dict[str, float | None]:
    bucket = tokens.bucket
    return {name: _mean(values[bucket == place]) for place, name in enumerate(DIFFICULTY_BUCKETS)}


def _sum(values: Tensor) -> float:
    # fsum rounds once, at the end, so the result does not depend on the order.
    return math.fsum(values.detach().double().tolist())


def _mean(values: Tensor) -> float | None:
    return _sum(values) / len(values) if len(values) else None


def _require_packed(tokens: StepTokens, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.shape != tokens.rollout.shape:
            raise ValueError(f"{name} must be {tuple(tokens.rollout.shape)}, got {tuple(tensor.shape)}")
