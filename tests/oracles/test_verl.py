"""verl 0.9.1's core algorithms: advantages, clipped losses with every reduction, KL, importance weights."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.advantages import asymmetric_advantages, group_norm_advantages, mean_centered_advantages
from trainer.losses import LossInputs, LossStats, importance_weights, k3, loss_weights, policy_loss
from trainer.spec.algorithm import AlgorithmSpec

WIDTH = 12
REDUCTIONS = {
    "token_mean": "token-mean",
    "sequence_mean": "seq-mean-token-mean",
    "fixed_length": "seq-mean-token-sum-norm",
}


def packed(padded: Tensor, mask: Tensor) -> Tensor:
    return padded[mask.bool()]


def groups(seed: int) -> tuple[Tensor, Tensor]:
    """Binary rewards of mixed groups of 2 to 33 rollouts, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(2, 34, (20,), generator=generator)
    ids = torch.repeat_interleave(torch.arange(20), sizes)
    rewards = (torch.rand(len(ids), generator=generator) < 0.4).double()
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)[:-1]])
    rewards[starts], rewards[starts + 1] = 0.0, 1.0
    order = torch.randperm(len(ids), generator=generator)
    return rewards[order], ids[order]


def their_advantages(verl_algorithms: ModuleType, rewards: Tensor, ids: Tensor, **options: Any) -> Tensor:
    mask = torch.ones(len(rewards), 3, dtype=rewards.dtype)
    token_rewards = torch.zeros_like(mask)
    token_rewards[:, -1] = rewards
    advantages, _ = verl_algorithms.compute_grpo_outcome_advantage(token_rewards, mask, ids.numpy(), **options)
    return advantages[:, 0]


@pytest.mark.parametrize("seed", range(3))
class TestAdvantages:
    def test_grpo_is_ours_at_one_half_up_to_the_std(self, seed: int, verl_algorithms: ModuleType, same) -> None:
        rewards, ids = groups(seed)
        n = torch.bincount(ids)[ids].double()
        theirs = their_advantages(verl_algorithms, rewards, ids, epsilon=0.0)
        for ours in (asymmetric_advantages(rewards, ids, 0.5, 0.5), group_norm_advantages(rewards, ids)):
            same(ours * ((n - 1) / n).sqrt(), theirs, 1e-12)

    def test_grpo_with_their_epsilon(self, seed: int, verl_algorithms: ModuleType, same) -> None:
        rewards, ids = groups(seed)
        # Uniform groups too, which their epsilon keeps at 0.
        rewards = torch.cat([rewards, torch.zeros(4), torch.ones(5)])
        ids = torch.cat([ids, torch.full((4,), 50), torch.full((5,), 51)])
        n = torch.bincount(ids)[ids].double()
        theirs = their_advantages(verl_algorithms, rewards, ids)
        # 1e-6 of a standard deviation of at least sqrt(1/33), on advantages of at most sqrt(32).
        same(asymmetric_advantages(rewards, ids, 0.5, 0.5) * ((n - 1) / n).sqrt(), theirs, 1e-5)

    def test_grpo_of_real_rewards(self, seed: int, verl_algorithms: ModuleType, same) -> None:
        _, ids = groups(seed)
        rewards = torch.randn(len(ids), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        n = torch.bincount(ids)[ids].double()
        theirs = their_advantages(verl_algorithms, rewards, ids, epsilon=0.0)
        same(group_norm_advantages(rewards, ids) * ((n - 1) / n).sqrt(), theirs, 1e-12)

    def test_dr_grpo(self, seed: int, verl_algorithms: ModuleType, same) -> None:
        rewards, ids = groups(seed)
        theirs = their_advantages(verl_algorithms, rewards, ids, norm_adv_by_std_in_grpo=False)
        same(mean_centered_advantages(rewards, ids), theirs, 1e-12)


def batch(seed: int) -> dict[str, Tensor]:
    """Padded tensors [rollouts, WIDTH] of one update, far enough off-policy that every kind of clipping occurs."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, WIDTH + 1, (16,), generator=generator)
    old = -torch.rand(16, WIDTH, generator=generator) * 4
    return {
        "lengths": lengths,
        "mask": (torch.arange(WIDTH) < lengths[:, None]).float(),
        "old": old,
        "new": old + torch.randn(16, WIDTH, generator=generator) * 0.7,
        "advantages": torch.randn(16, 1, generator=generator).expand(-1, WIDTH),
        "importance": torch.rand(16, WIDTH, generator=generator) * 2,
        "entropy": torch.rand(16, WIDTH, generator=generator),
    }


def ours(data: dict[str, Tensor], spec: AlgorithmSpec, keep: Tensor, **extra: Tensor) -> tuple[Tensor, Tensor, dict]:
    """Loss, gradient (padded) and metrics of the trainer's loss on the packed tokens."""
    new = data["new"].clone().requires_grad_()
    mask = data["mask"]
    weights = loss_weights(spec.loss_reduction, data["lengths"], WIDTH, keep)
    inputs = LossInputs(
        logp=packed(new, mask),
        logp_old=packed(data["old"], mask),
        advantage=packed(data["advantages"], mask),
        weight=packed(weights[:, None].expand(-1, WIDTH), mask),
        **{name: packed(tensor, mask) for name, tensor in extra.items()},
    )
    outputs = policy_loss(inputs, spec, spec.entropy_coef)
    outputs.loss.backward()
    return outputs.loss, new.grad, LossStats.total([outputs.stats]).metrics()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("truncated", [False, True], ids=["all", "truncated_masked"])
class TestLosses:
    def theirs(
        self, verl_algorithms: ModuleType, data: dict[str, Tensor], mask: Tensor, spec: AlgorithmSpec, **extra: Tensor
    ) -> tuple[Tensor, Tensor, dict]:
        from verl.workers.config import ActorConfig

        config = ActorConfig(
            strategy="fsdp",
            rollout_n=8,
            ppo_micro_batch_size_per_gpu=1,
            clip_ratio_low=spec.clip_low,
            clip_ratio_high=spec.clip_high,
            clip_ratio_c=spec.dual_clip or 1e30,
        )
        new = data["new"].clone().requires_grad_()
        loss, metrics = verl_algorithms.compute_policy_loss_vanilla(
            data["old"], new, data["advantages"], mask, REDUCTIONS[spec.loss_reduction], config, **extra
        )
        loss.backward()
        return loss, new.grad, metrics

    @pytest.mark.parametrize(
        "options",
        [{}, {"clip_high": 0.28}, {"clip_low": 0.1, "clip_high": 0.3, "dual_clip": 1.5}],
        ids=["ppo", "clip_higher", "dual_clip"],
    )
    def test_clipped_surrogate(
        self, seed: int, reduction: str, truncated: bool, options: dict, verl_algorithms: ModuleType, same
    ) -> None:
        spec = AlgorithmSpec(loss_reduction=reduction, **options)
        data = batch(seed)
        keep = ~(truncated & (data["lengths"] == WIDTH))
        mask = data["mask"] * keep[:, None]
        loss, gradient, metrics = ours(data, spec, keep)
        their_loss, their_gradient, their_metrics = self.theirs(verl_algorithms, data, mask, spec)
        same(loss, their_loss, 1e-6)
        same(gradient, their_gradient, 1e-6)
        clipped = metrics["policy/clip_fraction_low"] + metrics["policy/clip_fraction_high"]
        same(clipped, their_metrics["actor/pg_clipfrac"], 1e-6)
        same(metrics["policy/clip_fraction_dual"], their_metrics["actor/pg_clipfrac_lower"], 1e-6)
        assert clipped > 0.1

    def test_importance_weights(
        self, seed: int, reduction: str, truncated: bool, verl_algorithms: ModuleType, same
    ) -> None:
        spec = AlgorithmSpec(loss_reduction=reduction)
        data = batch(seed)
        keep = ~(truncated & (data["lengths"] == WIDTH))
        loss, gradient, _ = ours(data, spec, keep, importance=data["importance"])
        their_loss, their_gradient, _ = self.theirs(
            verl_algorithms, data, data["mask"] * keep[:, None], spec, rollout_is_weights=data["importance"]
        )
        same(loss, their_loss, 1e-6)
        same(gradient, their_gradient, 1e-6)

    def test_kl_and_entropy_terms(
        self, seed: int, reduction: str, truncated: bool, verl_algorithms: ModuleType, same
    ) -> None:
        spec = AlgorithmSpec(loss_reduction=reduction, kl_coef=0.3, entropy_coef=0.2)
        data = batch(seed)
        keep = ~(truncated & (data["lengths"] == WIDTH))
        mask = data["mask"] * keep[:, None]
        reference = data["old"] - 0.3
        loss, gradient, metrics = ours(data, spec, keep, logp_ref=reference, entropy=data["entropy"])
        surrogate, their_gradient, _ = self.theirs(verl_algorithms, data, mask, spec)
        new = data["new"].clone().requires_grad_()
        kl = verl_algorithms.kl_penalty(new, reference, "low_var_kl")
        kl_loss = verl_algorithms.agg_loss(kl, mask, REDUCTIONS[reduction])
        entropy = verl_algorithms.agg_loss(data["entropy"], mask, REDUCTIONS[reduction])
        (0.3 * kl_loss).backward()
        same(loss, surrogate + 0.3 * kl_loss - 0.2 * entropy, 1e-6)
        same(gradient, their_gradient + new.grad, 1e-6)
        same(metrics["policy/kl_ref"], verl_algorithms.agg_loss(kl, mask, "token-mean"), 1e-6)


def test_k3(verl_algorithms: ModuleType, same) -> None:
    logp, reference = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0)).double() * 0.4
    same(k3(reference - logp), verl_algorithms.kl_penalty(logp, reference, "low_var_kl"), 1e-12)


@pytest.mark.parametrize(
    ("kind", "level", "threshold"), [("token_truncated", "token", 1.4), ("sequence_masked", "sequence", "1e-30_1.4")]
)
def test_correction_for_the_engine(kind: str, level: str, threshold: Any, verl_corrections: ModuleType, same) -> None:
    data = batch(5)
    mask = data["mask"].bool()
    engine = data["old"] + torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.2
    theirs, _ = verl_corrections.compute_rollout_correction_weights(
        data["old"] - engine, data["mask"], level, threshold
    )
    rollout = torch.repeat_interleave(torch.arange(16), data["lengths"])
    weights = importance_weights(kind, data["old"][mask], engine[mask], rollout, 16, 1.4)
    same(weights, theirs[mask], 1e-6)
    touched = weights == 0 if kind == "sequence_masked" else weights > 1.4 - 1e-6
    assert 0 < touched.sum() < len(weights)
