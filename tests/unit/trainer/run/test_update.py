"""An update is the same whatever the micro-batching, the order and the padding; a broken number never reaches the
weights."""

import copy
from pathlib import Path

import pytest
import torch

from trainer.errors import RunError
from trainer.forward import Sequences, micro_batches, score
from trainer.models import Policy, load_policy
from trainer.spec import JobSpec
from trainer.update import Batch, learning_rate, make_optimizer, update

PROMPTS = [[3, 4, 12, 5, 6], [7, 12, 8], [9, 9, 12, 9, 9], [3, 12, 3], [5, 6, 12, 7, 8]]
RESPONSES = [[4, 5], [6], [7, 8, 9, 3], [], [4, 4, 5]]


@pytest.fixture(scope="module")
def policy(model_cache: Path) -> Policy:
    return load_policy(
        "builtin/tiny-arith", model_dir=None, cache_dir=model_cache, models_dir=None, device=torch.device("cpu")
    )


def job(**sections: dict[str, object]) -> JobSpec:
    minimal = {
        "name": "x",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": "train.jsonl"},
        "reward": {"kind": "exact"},
        "rollout": {"max_new_tokens": 8, "temperature": 0.9},
        "optim": {"lr": 1e-3, "max_grad_norm": 1e9},
    }
    for name, section in sections.items():
        minimal[name] = {**minimal.get(name, {}), **section}  # type: ignore[dict-item]
    return JobSpec.model_validate(minimal)


def batch(policy: Policy, order: list[int]) -> Batch:
    sequences = Sequences([PROMPTS[i] for i in order], [RESPONSES[i] for i in order])
    logp, entropy = score(policy, sequences, 0.9, torch.float32, 10_000)
    # Old log-probs that differ from the present ones, so that the ratio and its clipping matter.
    shift = torch.cat([torch.linspace(-0.4, 0.4, len(RESPONSES[i])) for i in order])
    return Batch(
        sequences=sequences,
        advantages=torch.tensor([1.5, -0.5, -0.25, 1.0, 0.75])[order],
        truncated=torch.tensor([False, False, True, False, False])[order],
        logp_old=logp + shift,
        entropy_old=entropy,
        logp_engine=logp,
        logp_reference=logp - 0.1,
    )


def gradients(policy: Policy, spec: JobSpec, order: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The gradient that one update computes, from a copy of the policy that keeps the original's weights."""
    changed = copy.copy(policy)
    changed.model = copy.deepcopy(policy.model)
    optimizer = make_optimizer(changed, spec.optim)
    stats, norm = update(changed, optimizer, spec, batch(policy, order), step=1, compute_dtype=torch.float32)
    # clip_grad_norm_ with a huge limit leaves the gradients as they are.
    found = {n: p.grad.clone() for n, p in changed.model.named_parameters() if p.grad is not None}
    return found, {**stats.metrics(), "norm": norm}


OPTIONS = [
    {"loss_reduction": "token_mean"},
    {"loss_reduction": "sequence_mean"},
    {"loss_reduction": "fixed_length"},
    {"mask_truncated": True},
    {"kl_coef": 0.1, "entropy_coef": 0.01, "dual_clip": 3.0},
    {"top_entropy_fraction": 0.5, "importance_correction": "token_truncated"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options))
def test_the_gradient_is_that_of_one_big_batch(policy: Policy, options: dict[str, object]):
    whole, whole_metrics = gradients(policy, job(algorithm=options), [0, 1, 2, 3, 4])
    assert whole_metrics["norm"] > 0
    for max_tokens, order in [(1, [0, 1, 2, 3, 4]), (16, [0, 1, 2, 3, 4]), (10_000, [4, 2, 0, 3, 1])]:
        spec = job(algorithm=options, optim={"max_tokens_per_micro_batch": max_tokens})
        parts, metrics = gradients(policy, spec, order)
        for name, gradient in whole.items():
            scale = gradient.abs().max().clamp(min=1e-8)
            assert ((parts[name] - gradient).abs().max() / scale) < 1e-5, name
        assert metrics == pytest.approx(whole_metrics, rel=1e-5, abs=1e-7)


def test_micro_batches_hold_every_response_once_within_the_budget():
    sequences = Sequences(PROMPTS, RESPONSES)
    batches = list(micro_batches(sequences, 16))
    assert sorted(index for indices in batches for index in indices) == [0, 1, 2, 4]
    for indices in batches:
        widths = [len(PROMPTS[i]) + len(RESPONSES[i]) for i in indices]
        assert len(indices) == 1 or max(widths) * len(indices) <= 16
    assert list(micro_batches(sequences, 1)) == [[2], [4], [0], [1]]


def test_scores_do_not_depend_on_the_company(policy: Policy):
    together = score(policy, Sequences(PROMPTS, RESPONSES), 0.7, torch.float32, 10_000)
    alone = [score(policy, Sequences([p], [r]), 0.7, torch.float32, 1) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    for i in (0, 1):
        torch.testing.assert_close(together[i], torch.cat([parts[i] for parts in alone]), atol=1e-5, rtol=1e-5)


def test_scores_agree_with_the_plain_model(policy: Policy):
    logp, entropy = score(policy, Sequences(PROMPTS[:1], RESPONSES[:1]), 0.7, torch.float32, 100)
    with torch.no_grad():
        logits = policy.model(torch.tensor([PROMPTS[0] + RESPONSES[0]])).logits[0, 4:6].double() / 0.7
    reference = logits.log_softmax(-1)
    torch.testing.assert_close(logp.double(), reference[[0, 1], RESPONSES[0]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), -(reference.exp() * reference).sum(-1), atol=1e-5, rtol=1e-5)


def test_a_broken_number_stops_the_run_before_the_weights(policy: Policy):
    changed = copy.copy(policy)
    changed.model = copy.deepcopy(policy.model)
    before = copy.deepcopy(changed.model.state_dict())
    spec = job()
    broken = batch(policy, [0, 1, 2, 3, 4])
    broken.advantages[0] = torch.nan
    with pytest.raises(RunError, match="step 7") as caught:
        update(changed, make_optimizer(changed, spec.optim), spec, broken, step=7, compute_dtype=torch.float32)
    assert caught.value.step == 7
    for name, value in changed.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_learning_rate_warms_up_and_stays():
    spec = job(optim={"lr": 1.0, "warmup_steps": 3}).optim
    assert [learning_rate(spec, step) for step in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
