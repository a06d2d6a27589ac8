"""The loss against a padded reference written from its definition, by hand, and however the step is cut."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from trainer.advantages import asymmetric_advantages
from trainer.logprobs import token_logprobs_and_entropy
from trainer.losses import (
    LossInputs,
    LossStats,
    clipped_surrogate,
    entropy_coefficient,
    importance_weights,
    k3,
    loss_weights,
    policy_loss,
    top_entropy_mask,
)
from trainer.spec.algorithm import AlgorithmSpec

MAX_NEW_TOKENS = 9
VOCAB, WIDTH = 31, 6


def spec(**fields: object) -> AlgorithmSpec:
    return AlgorithmSpec.model_validate(fields)


@dataclass(frozen=True)
class Rollouts:
    """A step: rollouts of unequal lengths (one is empty) in groups of unequal sizes, each with its own tensors."""

    hidden: list[Tensor]
    targets: list[Tensor]
    logp_old: list[Tensor]
    logp_ref: list[Tensor]
    logp_engine: list[Tensor]
    entropy_old: list[Tensor]
    rewards: Tensor
    group_ids: Tensor
    truncated: Tensor
    weight: Tensor

    @property
    def lengths(self) -> Tensor:
        return torch.tensor([len(t) for t in self.targets])

    @property
    def advantages(self) -> Tensor:
        return asymmetric_advantages(self.rewards, self.group_ids, 0.9, 0.4)

    def reordered(self, order: list[int]) -> "Rollouts":
        lists = {
            name: [getattr(self, name)[i] for i in order]
            for name in ("hidden", "targets", "logp_old", "logp_ref", "logp_engine", "entropy_old")
        }
        tensors = {name: getattr(self, name)[order] for name in ("rewards", "group_ids", "truncated")}
        return replace(self, **lists, **tensors)


@pytest.fixture
def rollouts() -> Rollouts:
    generator = torch.Generator().manual_seed(3)
    group_ids = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])
    rewards = torch.tensor([1.0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1])
    lengths = [3, 9, 1, 5, 2, 9, 4, 0, 7, 9, 6]

    def per_token(spread: float) -> list[Tensor]:
        return [torch.randn(n, generator=generator, dtype=torch.float64) * spread for n in lengths]

    hidden = [torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) for n in lengths]
    targets = [torch.randint(VOCAB, (n,), generator=generator) for n in lengths]
    weight = torch.randn(VOCAB, WIDTH, generator=generator, dtype=torch.float64)
    now = [token_logprobs_and_entropy(h, weight, t, 1.0) for h, t in zip(hidden, targets, strict=True)]

    def around(spread: float) -> list[Tensor]:
        return [logp + noise for (logp, _), noise in zip(now, per_token(spread), strict=True)]

    return Rollouts(
        hidden,
        targets,
        around(0.5),
        around(0.3),
        around(0.6),
        [entropy + noise for (_, entropy), noise in zip(now, per_token(0.1), strict=True)],
        rewards,
        group_ids,
        torch.tensor(lengths) == MAX_NEW_TOKENS,
        weight,
    )


def step_loss(step: Rollouts, algorithm: AlgorithmSpec, micro_batch: int) -> tuple[float, Tensor, LossStats]:
    """Loss, gradient and statistics of one optimizer step, in micro-batches of so many rollouts."""
    weight = step.weight.clone().requires_grad_()
    rollout = torch.repeat_interleave(torch.arange(len(step.targets)), step.lengths)
    keep = ~step.truncated if algorithm.mask_truncated else None
    weights = loss_weights(algorithm.loss_reduction, step.lengths, MAX_NEW_TOKENS, keep)[rollout]
    mask = None
    if algorithm.top_entropy_fraction is not None:
        mask = top_entropy_mask(torch.cat(step.entropy_old), algorithm.top_entropy_fraction, weights > 0)
    importance = None
    if algorithm.importance_correction != "none":
        importance = importance_weights(
            algorithm.importance_correction,
            torch.cat(step.logp_old),
            torch.cat(step.logp_engine),
            rollout,
            len(step.targets),
            algorithm.importance_cap,
        )
    total, parts = 0.0, []
    for first in range(0, len(step.targets), micro_batch):
        part = slice(first, first + micro_batch)
        where = (rollout >= first) & (rollout < first + micro_batch)
        logp, entropy = token_logprobs_and_entropy(
            torch.cat(step.hidden[part]), weight, torch.cat(step.targets[part]), 1.0
        )
        outputs = policy_loss(
            LossInputs(
                logp=logp,
                logp_old=torch.cat(step.logp_old[part]),
                advantage=step.advantages[rollout][where],
                weight=weights[where],
                entropy=entropy,
                logp_ref=torch.cat(step.logp_ref[part]) if algorithm.kl_coef else None,
                importance=None if importance is None else importance[where],
                token_mask=None if mask is None else mask[where],
            ),
            algorithm,
            algorithm.entropy_coef,
        )
        outputs.loss.backward()
        total += outputs.loss.item()
        parts.append(outputs.stats)
    return total, weight.grad, LossStats.total(parts)


def padded_reference(step: Rollouts, algorithm: AlgorithmSpec) -> tuple[float, Tensor]:
    """The same from the definitions, over padded [rollouts, tokens] tensors and dense logits, token by token."""
    weight = step.weight.clone().requires_grad_()
    kept = [i for i in range(len(step.targets)) if not (algorithm.mask_truncated and step.truncated[i])]
    candidates = torch.cat([step.entropy_old[i] for i in kept])
    threshold = -math.inf
    if algorithm.top_entropy_fraction is not None:
        rank = math.ceil(algorithm.top_entropy_fraction * len(candidates))
        threshold = candidates.sort(descending=True).values[rank - 1].item()
    rows = []
    for i in kept:
        losses = []
        cap = algorithm.importance_cap
        sequence_ratio = (step.logp_old[i] - step.logp_engine[i]).sum().exp().item()
        for t in range(len(step.targets[i])):
            all_logp = torch.log_softmax(weight @ step.hidden[i][t], 0)
            logp, advantage = all_logp[step.targets[i][t]], step.advantages[i].item()
            ratio = (logp - step.logp_old[i][t]).exp()
            clipped = min(max(ratio, torch.tensor(1 - algorithm.clip_low)), torch.tensor(1 + algorithm.clip_high))
            surrogate = min(ratio * advantage, clipped * advantage)
            if algorithm.dual_clip is not None and advantage < 0:
                surrogate = max(surrogate, torch.tensor(algorithm.dual_clip * advantage))
            if algorithm.importance_correction == "token_truncated":
                surrogate = surrogate * min((step.logp_old[i][t] - step.logp_engine[i][t]).exp().item(), cap)
            if algorithm.importance_correction == "sequence_masked":
                surrogate = surrogate * (sequence_ratio if sequence_ratio <= cap else 0.0)
            loss = -surrogate if step.entropy_old[i][t] >= threshold else torch.tensor(0.0)
            if algorithm.kl_coef:
                difference = step.logp_ref[i][t] - logp
                loss = loss + algorithm.kl_coef * (difference.exp() - difference - 1)
            if algorithm.entropy_coef:
                loss = loss - algorithm.entropy_coef * -(all_logp.exp() * all_logp).sum()
            losses.append(loss)
        rows.append(torch.stack(losses) if losses else torch.zeros(0, dtype=torch.float64))
    if algorithm.loss_reduction == "token_mean":
        total = torch.cat(rows).mean()
    elif algorithm.loss_reduction == "sequence_mean":
        total = torch.stack([row.mean() for row in rows if len(row)]).mean()
    else:
        total = torch.cat(rows).sum() / (len(rows) * MAX_NEW_TOKENS)
    total.backward()
    return total.item(), weight.grad


OPTIONS = {
    "plain": {},
    "clip_higher": {"clip_high": 0.28},
    "dual_clip": {"dual_clip": 1.3},
    "kl": {"kl_coef": 0.07},
    "entropy": {"entropy_coef": 0.05},
    "mask_truncated": {"mask_truncated": True},
    "top_entropy": {"top_entropy_fraction": 0.2, "mask_truncated": True},
    "token_truncated": {"importance_correction": "token_truncated", "importance_cap": 1.5},
    "sequence_masked": {"importance_correction": "sequence_masked", "importance_cap": 1.5},
    "all": {
        "clip_high": 0.28,
        "dual_clip": 1.5,
        "kl_coef": 0.1,
        "entropy_coef": 0.01,
        "mask_truncated": True,
        "top_entropy_fraction": 0.5,
        "importance_correction": "token_truncated",
    },
}


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "fixed_length"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
class TestStep:
    def test_equals_the_padded_reference(self, rollouts: Rollouts, reduction: str, options: dict) -> None:
        algorithm = spec(loss_reduction=reduction, **options)
        loss, gradient, _ = step_loss(rollouts, algorithm, micro_batch=100)
        expected, expected_gradient = padded_reference(rollouts, algorithm)
        assert loss == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9)

    def test_micro_batching_and_order_do_not_matter(self, rollouts: Rollouts, reduction: str, options: dict) -> None:
        algorithm = spec(loss_reduction=reduction, **options)
        loss, gradient, stats = step_loss(rollouts, algorithm, micro_batch=100)
        order = torch.randperm(len(rollouts.targets), generator=torch.Generator().manual_seed(0)).tolist()
        for step, micro_batch in [(rollouts, 1), (rollouts, 3), (rollouts.reordered(order), 3)]:
            other_loss, other_gradient, other_stats = step_loss(step, algorithm, micro_batch)
            assert other_loss == pytest.approx(loss, rel=1e-9)
            torch.testing.assert_close(other_gradient, gradient, rtol=1e-9, atol=1e-12)
            for key, value in stats.metrics().items():
                other = other_stats.metrics()[key]
                assert other == (None if value is None else pytest.approx(value, rel=1e-9)), key


def test_weights_by_hand() -> None:
    lengths = torch.tensor([2, 6, 0, 4])
    keep = torch.tensor([True, True, True, False])

    def weights(reduction: str, keep: Tensor | None) -> list[float]:
        return loss_weights(reduction, lengths, 10, keep).tolist()

    assert weights("token_mean", None) == [1 / 12] * 4
    assert weights("token_mean", keep) == pytest.approx([1 / 8, 1 / 8, 1 / 8, 0])
    # The empty rollout has no mean over its tokens, so it is not counted among the rollouts.
    assert weights("sequence_mean", None) == pytest.approx([1 / 6, 1 / 18, 0, 1 / 12])
    assert weights("sequence_mean", keep) == pytest.approx([1 / 4, 1 / 12, 0, 0])
    assert weights("fixed_length", None) == pytest.approx([1 / 40] * 4)
    assert weights("fixed_length", keep) == pytest.approx([1 / 30, 1 / 30, 1 / 30, 0])


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "fixed_length"])
def test_nothing_left_is_0_and_not_nan(reduction: str) -> None:
    lengths = torch.tensor([3, 5])
    none_kept = loss_weights(reduction, lengths, 8, torch.zeros(2, dtype=torch.bool))
    assert none_kept.tolist() == [0, 0]
    if reduction != "fixed_length":
        assert loss_weights(reduction, torch.zeros(2, dtype=torch.int64), 8).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("token_mean", torch.tensor([1, -1]), 8), "got -1 to 1"),
        (("token_mean", torch.tensor([1, 9]), 8), "got 1 to 9"),
        (("token_mean", torch.tensor([1.0]), 8), "integers"),
        (("token_mean", torch.tensor([1]), 8, torch.tensor([True, False])), "keep must be"),
        (("token_mean", torch.tensor([1]), 8, torch.tensor([1])), "keep must be"),
        (("mean", torch.tensor([1]), 8), "unknown loss reduction"),
    ],
)
def test_bad_weights_are_named(arguments: tuple, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        loss_weights(*arguments)


def test_clipping_by_hand() -> None:
    """Ratios 0.5, 1, 2 under both signs, clip 0.2 / 0.28, dual clip 1.5: values, gradients and counts."""
    ratio = torch.tensor([0.5, 1, 2, 0.5, 1, 2], dtype=torch.float64)
    advantage = torch.tensor([1.0, 1, 1, -1, -1, -1], dtype=torch.float64)
    assert clipped_surrogate(ratio, advantage, 0.2, 0.28).tolist() == [0.5, 1, 1.28, -0.8, -1, -2]
    logp = ratio.log().requires_grad_()
    inputs = LossInputs(logp, torch.zeros(6, dtype=torch.float64), advantage, torch.ones(6, dtype=torch.float64))
    outputs = policy_loss(inputs, spec(clip_high=0.28, dual_clip=1.5), 0.0)
    assert outputs.loss.item() == pytest.approx(-(0.5 + 1 + 1.28 - 0.8 - 1 - 1.5))
    outputs.loss.backward()
    # d(ratio A) / d logp = ratio A where nothing clips.
    assert logp.grad.tolist() == pytest.approx([-0.5, -1, 0, 0, 1, 0])
    metrics = LossStats.total([outputs.stats]).metrics()
    assert metrics == pytest.approx(
        {
            "policy/loss": outputs.loss.item(),
            "policy/clip_fraction_low": 1 / 6,
            "policy/clip_fraction_high": 1 / 6,
            "policy/clip_fraction_dual": 1 / 6,
            "policy/clip_fraction_negative": 1 / 3,
            "policy/clip_fraction_positive": 1 / 3,
            "policy/kl_old": (2 * (0.5 - 1 - math.log(0.5)) + 2 * (2 - 1 - math.log(2))) / 6,
            "policy/kl_ref": None,
            "policy/ratio_max": 2.0,
        }
    )


def test_masked_tokens_are_in_no_statistic() -> None:
    logp = torch.tensor([0.0, 3.0])
    inputs = LossInputs(logp, torch.zeros(2), torch.ones(2), torch.tensor([1.0, 0.0]), logp_ref=torch.zeros(2))
    metrics = LossStats.total([policy_loss(inputs, spec(), 0.0).stats]).metrics()
    assert metrics["policy/ratio_max"] == 1
    assert metrics["policy/clip_fraction_high"] == 0
    assert metrics["policy/kl_old"] == 0
    assert metrics["policy/kl_ref"] == 0


def test_statistics_without_tokens_are_undefined() -> None:
    metrics = LossStats.total([]).metrics()
    assert metrics.pop("policy/loss") == 0
    assert set(metrics.values()) == {None}
    nothing = torch.zeros(0)
    empty = policy_loss(LossInputs(nothing, nothing, nothing, nothing), spec(), 0.0)
    assert empty.loss.item() == 0
    assert LossStats.total([empty.stats]).metrics()["policy/ratio_max"] is None


def test_loss_of_a_step_is_the_mean_over_its_updates() -> None:
    def update(logp: float, tokens: int) -> LossStats:
        # Two micro-batches per update.
        inputs = LossInputs(
            torch.full((tokens,), logp), torch.zeros(tokens), torch.ones(tokens), torch.full((tokens,), 0.5 / tokens)
        )
        return LossStats.total([policy_loss(inputs, spec(), 0.0).stats] * 2)

    metrics = LossStats.total([update(0.0, 4), update(math.log(1.1), 12)]).metrics()
    assert metrics["policy/loss"] == pytest.approx(-(1 + 1.1) / 2)
    assert metrics["policy/kl_old"] == pytest.approx(0.75 * (0.1 - math.log(1.1)))
    assert metrics["policy/ratio_max"] == pytest.approx(1.1)


def test_huge_ratios_stay_finite() -> None:
    logp = torch.tensor([300.0, -300.0, 300.0, -300.0], requires_grad=True)
    advantage = torch.tensor([1.0, 1, -1, -1])
    outputs = policy_loss(LossInputs(logp, torch.zeros(4), advantage, torch.ones(4)), spec(), 0.0)
    outputs.loss.backward()
    assert outputs.loss.isfinite()
    assert logp.grad.isfinite().all()


def test_k3() -> None:
    log_ratio = torch.tensor([0.0, 0.3, -0.7, 1e-4], dtype=torch.float64)
    expected = log_ratio.exp() - log_ratio - 1
    torch.testing.assert_close(k3(log_ratio), expected, rtol=1e-7, atol=1e-15)
    assert (k3(torch.randn(1000)) >= 0).all()
    # Its mean over samples from p is KL(p || q).
    p, q = torch.tensor([0.5, 0.25, 0.25]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    torch.testing.assert_close((p * k3((q / p).log())).sum(), (p * (p / q).log()).sum())


def test_top_entropy_mask() -> None:
    entropy = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.2])
    assert top_entropy_mask(entropy, 0.2).tolist() == [False, True, False, False, False]
    # Rounded up, and ties are all in.
    assert top_entropy_mask(entropy, 0.3).tolist() == [False, True, True, True, False]
    assert top_entropy_mask(entropy, 1.0).all()
    counted = torch.tensor([True, False, True, True, True])
    assert top_entropy_mask(entropy, 0.25, counted).tolist() == [False, False, True, True, False]
    assert top_entropy_mask(torch.zeros(0), 0.5).shape == (0,)
    with pytest.raises(ValueError, match="fraction"):
        top_entropy_mask(entropy, 0.0)


def test_importance_weights_by_hand() -> None:
    ratios = torch.tensor([0.5, 4.0, 1.5, 1.2, 0.1], dtype=torch.float64)
    engine = torch.tensor([-1.0, -2, -3, -4, -5], dtype=torch.float64)
    rollout = torch.tensor([0, 1, 0, 1, 2])
    arguments = (ratios.log() + engine, engine, rollout, 3, 2.0)
    assert importance_weights("token_truncated", *arguments).tolist() == pytest.approx([0.5, 2, 1.5, 1.2, 0.1])
    # Rollout 0: 0.5 * 1.5; rollout 1: 4 * 1.2, over the cap; rollout 2: 0.1.
    assert importance_weights("sequence_masked", *arguments).tolist() == pytest.approx([0.75, 0, 0.75, 0, 0.1])
    with pytest.raises(ValueError, match="unknown importance correction"):
        importance_weights("none", *arguments)


def test_importance_weights_carry_no_gradient_and_stay_finite() -> None:
    old = torch.tensor([500.0, -500.0], requires_grad=True)
    for kind in ("token_truncated", "sequence_masked"):
        weights = importance_weights(kind, old, torch.zeros(2), torch.tensor([0, 1]), 2, 2.0)
        assert not weights.requires_grad
        assert weights.isfinite().all()


def test_entropy_coefficient() -> None:
    fixed = spec(entropy_coef=0.01)
    adaptive = spec(entropy_coef=0.01, entropy_target=0.5)
    assert [entropy_coefficient(fixed, h) for h in (0.1, 0.9, None)] == [0.01, 0.01, 0.01]
    assert [entropy_coefficient(adaptive, h) for h in (0.1, 0.5, 0.9, None)] == [0.01, 0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "entropy_coef", "complaint"), [({"kl_coef": 0.1}, 0.0, "logp_ref"), ({}, 0.1, "needs the entropy")]
)
def test_a_missing_input_is_named(fields: dict, entropy_coef: float, complaint: str) -> None:
    ones = torch.ones(2)
    with pytest.raises(ValueError, match=complaint):
        policy_loss(LossInputs(ones, ones, ones, ones), spec(**fields), entropy_coef)


def test_nan_reaches_the_loss() -> None:
    ones = torch.ones(2)
    assert policy_loss(LossInputs(ones * math.nan, ones, ones, ones), spec(), 0.0).loss.isnan()
