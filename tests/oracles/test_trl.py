"""TRL 1.16: its chunked log-probs and entropies, and the loss that its GRPO trainer computes."""

from collections import defaultdict
from types import MethodType, ModuleType, SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from trainer.logprobs import token_logprobs_and_entropy
from trainer.losses import LossInputs, LossStats, importance_weights, loss_weights, policy_loss, top_entropy_mask
from trainer.spec.algorithm import AlgorithmSpec

WIDTH = 12


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("shape", [(300, 5000, 64), (7, 101, 16)], ids=["large", "small"])
class TestChunkedLogprobs:
    def inputs(self, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
        tokens, vocab, width = shape
        generator = torch.Generator().manual_seed(vocab)
        hidden = torch.randn(tokens, width, generator=generator)
        weight = torch.randn(vocab, width, generator=generator) * 0.3
        return hidden, weight, torch.randint(vocab, (tokens,), generator=generator)

    def test_values_and_gradients(self, temperature: float, shape, trl_chunked: ModuleType, same) -> None:
        hidden, weight, targets = self.inputs(shape)
        factors = torch.randn(2, len(hidden), generator=torch.Generator().manual_seed(1))
        results = []
        for theirs in (False, True):
            h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
            if theirs:
                logp, entropy, *_ = trl_chunked.ChunkedLogProbFunction.apply(
                    h, w, None, targets, temperature, 1024, None, 1.0, ("entropy",)
                )
            else:
                logp, entropy = token_logprobs_and_entropy(h, w, targets, temperature)
            (logp @ factors[0] + entropy @ factors[1]).backward()
            results.append((logp, entropy, h.grad, w.grad))
        for ours, theirs in zip(*results, strict=True):
            # Both are float32: each is up to 2.3e-6 from float64 here, ours less than theirs.
            same(ours, theirs, 5e-6)


def batch(seed: int) -> dict[str, Tensor]:
    """Padded tensors [rollouts, WIDTH] of one update."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, WIDTH + 1, (16,), generator=generator)
    old = -torch.rand(16, WIDTH, generator=generator) * 4
    return {
        "lengths": lengths,
        "mask": (torch.arange(WIDTH) < lengths[:, None]).int(),
        "old": old,
        "new": old + torch.randn(16, WIDTH, generator=generator) * 0.6,
        "reference": old + torch.randn(16, WIDTH, generator=generator) * 0.3,
        "engine": old + torch.randn(16, WIDTH, generator=generator) * 0.2,
        "entropy": torch.rand(16, WIDTH, generator=generator),
        "advantages": torch.randn(16, generator=generator),
    }


def their_loss(
    trl_grpo: ModuleType, data: dict[str, Tensor], spec: AlgorithmSpec, importance: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, list[float]]]:
    """GRPOTrainer._compute_loss itself, with the model's log-probs and entropies put in its place."""
    new = data["new"].clone().requires_grad_()
    loss_type = {"token_mean": "dapo", "sequence_mean": "grpo", "fixed_length": "dr_grpo"}[spec.loss_reduction]
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, data["entropy"], None),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=spec.entropy_coef > 0,
        accelerator=Accelerator(cpu=True),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=spec.dual_clip, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=spec.kl_coef,
        current_gradient_accumulation_steps=1,
        entropy_coef=spec.entropy_coef,
        epsilon_low=spec.clip_low,
        epsilon_high=spec.clip_high,
        importance_sampling_level="token",
        loss_type=loss_type,
        max_completion_length=WIDTH,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=spec.top_entropy_fraction or 1.0,
        use_adaptive_entropy=False,
        use_vllm=importance is not None,
        vllm_importance_sampling_correction=True,
    )
    trainer.get_high_entropy_mask = MethodType(trl_grpo.GRPOTrainer.get_high_entropy_mask, trainer)
    prompts = torch.zeros(16, 1, dtype=torch.int64)
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": prompts + 1,
        "completion_ids": torch.zeros(16, WIDTH, dtype=torch.int64),
        "completion_mask": data["mask"],
        "advantages": data["advantages"],
        "old_per_token_logps": data["old"],
        "ref_per_token_logps": data["reference"],
        "importance_sampling_ratio": importance,
        "num_items_in_batch": data["mask"].sum(),
    }
    loss = trl_grpo.GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return loss, new.grad, trainer._metrics["train"]


def our_loss(data: dict[str, Tensor], spec: AlgorithmSpec, importance: Tensor | None) -> tuple[Tensor, Tensor, dict]:
    new = data["new"].clone().requires_grad_()
    mask = data["mask"].bool()
    weights = loss_weights(spec.loss_reduction, data["lengths"], WIDTH)
    rollout = torch.repeat_interleave(torch.arange(16), data["lengths"])
    fraction = spec.top_entropy_fraction
    outputs = policy_loss(
        LossInputs(
            logp=new[mask],
            logp_old=data["old"][mask],
            advantage=data["advantages"][rollout],
            weight=weights[rollout],
            entropy=data["entropy"][mask],
            logp_ref=data["reference"][mask],
            importance=importance,
            token_mask=None if fraction is None else top_entropy_mask(data["entropy"][mask], fraction),
        ),
        spec,
        spec.entropy_coef,
    )
    outputs.loss.backward()
    return outputs.loss, new.grad, LossStats.total([outputs.stats]).metrics()


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "fixed_length"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_high": 0.28},
        {"clip_high": 0.28, "dual_clip": 1.5},
        {"kl_coef": 0.3},
        {"top_entropy_fraction": 0.2},
        {"kl_coef": 0.1, "top_entropy_fraction": 0.5},
    ],
    ids=["ppo", "clip_higher", "dual_clip", "k3", "top_entropy", "k3_and_top_entropy"],
)
@pytest.mark.parametrize("seed", range(2))
def test_grpo_loss(reduction: str, options: dict, seed: int, trl_grpo: ModuleType, same) -> None:
    spec = AlgorithmSpec(loss_reduction=reduction, **options)
    data = batch(seed)
    loss, gradient, metrics = our_loss(data, spec, None)
    theirs, their_gradient, their_metrics = their_loss(trl_grpo, data, spec, None)
    same(loss, theirs, 1e-6)
    same(gradient, their_gradient, 1e-6)
    if "kl_coef" in options:
        same(metrics["policy/kl_ref"], their_metrics["kl"][0], 1e-6)
    if "top_entropy_fraction" not in options and "dual_clip" not in options:
        # Ours count the tokens that the surrogate is trained on; theirs all, and after the dual clip.
        same(metrics["policy/clip_fraction_low"], their_metrics["clip_ratio/low_mean"][0], 1e-6)
        same(metrics["policy/clip_fraction_high"], their_metrics["clip_ratio/high_mean"][0], 1e-6)


def test_entropy_bonus_of_the_token_mean(trl_grpo: ModuleType, same) -> None:
    # Theirs is the mean over tokens whatever the loss reduction; ours follows the reduction.
    spec = AlgorithmSpec(entropy_coef=0.2)
    data = batch(4)
    same(our_loss(data, spec, None)[0], their_loss(trl_grpo, data, spec, None)[0], 1e-6)


@pytest.mark.parametrize("kind", ["token_truncated", "sequence_masked"])
def test_loss_corrected_for_the_engine(kind: str, trl_grpo: ModuleType, same) -> None:
    """Their weights are computed in the middle of sampling; the two lines are repeated here, the loss is theirs."""
    spec, cap = AlgorithmSpec(), 1.4
    data = batch(6)
    mask = data["mask"].bool()
    difference = (data["old"] - data["engine"]) * data["mask"]
    if kind == "token_truncated":
        their_weights = difference.exp().clamp(max=cap)
    else:
        ratio = difference.sum(-1, keepdim=True).exp()
        their_weights = ratio.masked_fill(ratio > cap, 0.0)
    rollout = torch.repeat_interleave(torch.arange(16), data["lengths"])
    weights = importance_weights(kind, data["old"][mask], data["engine"][mask], rollout, 16, cap)
    same(weights, their_weights.expand(-1, WIDTH)[mask], 1e-6)
    loss, gradient, _ = our_loss(data, spec, weights)
    theirs, their_gradient, _ = their_loss(trl_grpo, data, spec, their_weights)
    same(loss, theirs, 1e-6)
    same(gradient, their_gradient, 1e-6)
