"""An update is the same whatever the micro-batching, the order and the padding; a broken number never reaches the
weights."""

import copy
import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from trainer import forward, token_budget
from trainer.errors import RunError
from trainer.forward import response_statistics, score
from trainer.models import Policy, load_lora_policy, load_policy
from trainer.recompute import recomputed_layers
from trainer.sequences import Sequences
from trainer.shared_prompts import can_share_prompts
from trainer.spec import JobSpec
from trainer.spec.model import LoraSpec
from trainer.token_budget import TokenBudget
from trainer.update import Batch, Updated, learning_rate, make_optimizer, update

A, B, C, D = [3, 4, 12, 5, 6], [7, 12, 8], [9, 9, 12, 9, 9], [3, 12, 3]
# Groups of three, two, one and one; one rollout is empty, and C has no other.
PROMPTS = [A, B, A, C, A, B, D]
RESPONSES = [[4, 5], [6], [7, 8, 9, 3], [], [4, 4, 5], [5, 9], [8]]
ADVANTAGES = [1.5, -0.5, -0.25, 1.0, 0.75, 0.6, -1.1]
TRUNCATED = [False, False, True, False, False, False, False]
IN_ORDER = list(range(len(PROMPTS)))
SHUFFLED = [4, 6, 2, 0, 5, 3, 1]


@pytest.fixture(scope="module")
def policy(model_cache: Path) -> Policy:
    return load_policy(
        "builtin/tiny-arith", model_dir=None, cache_dir=model_cache, models_dir=None, device=torch.device("cpu")
    )


@pytest.fixture(scope="module")
def adapted(model_cache: Path) -> Policy:
    """With an adapter both of whose factors have a gradient."""
    policy = load_lora_policy(
        "builtin/tiny-arith", LoraSpec(rank=3), 0, adapter_dir=None, model_dir=None, cache_dir=model_cache,
        models_dir=None, device=torch.device("cpu"),
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return policy


@pytest.fixture
def small_mistral(policy: Policy) -> Policy:
    """Random weights, and a window of three tokens."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=18, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=3, tie_word_embeddings=True,
    )  # fmt: skip
    return Policy("path/small", MistralForCausalLM(config).eval(), policy.tokenizer, policy.eos_ids, policy.pad_id)


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
        advantages=torch.tensor(ADVANTAGES)[order],
        truncated=torch.tensor(TRUNCATED)[order],
        logp_old=logp + shift,
        entropy_old=entropy,
        logp_engine=logp,
        logp_reference=logp - 0.1,
    )


def budget_of(spec: JobSpec) -> TokenBudget:
    given = spec.optim.max_tokens_per_micro_batch
    return TokenBudget(10_000 if given == "auto" else given)


@dataclass
class Done:
    updated: Updated
    gradient: dict[str, torch.Tensor]
    tokens: int
    """That went through the model, padding included."""
    layer_passes: int
    """Of the first layer, recomputed ones too."""


def take_update(
    policy: Policy,
    spec: JobSpec,
    given: Batch,
    budget: TokenBudget | None = None,
    memory_tokens: int | None = None,
) -> Done:
    """One update of a copy of the policy, which keeps its weights. `memory_tokens`: the device's memory is full when
    more go through the model at once, until its budget is the smallest."""
    budget = budget or budget_of(spec)
    changed = copy.copy(policy)
    changed.model = copy.deepcopy(policy.model)
    seen: list[int] = []
    passes: list[int] = []

    def embedded(module: torch.nn.Module, arguments: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if memory_tokens is not None and arguments[0].numel() > memory_tokens:
            full = memory_tokens == 0 or budget.tokens > token_budget.SMALLEST
            if full:
                raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(arguments[0].numel())

    changed.model.get_input_embeddings().register_forward_hook(embedded)
    first_layer = changed.model.base_model.layers[0].mlp
    first_layer.register_forward_pre_hook(lambda *_: passes.append(1))
    updated = update(
        changed, make_optimizer(changed, spec.optim), spec, given, step=1, compute_dtype=torch.float32, budget=budget
    )
    # clip_grad_norm_ with a huge limit leaves the gradients as they are.
    gradient = {n: p.grad.clone() for n, p in changed.model.named_parameters() if p.grad is not None}
    return Done(updated, gradient, sum(seen), len(passes))


def gradients(policy: Policy, spec: JobSpec, order: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The gradient and the metrics of one update."""
    done = take_update(policy, spec, batch(policy, order))
    return done.gradient, {**done.updated.stats.metrics(), "norm": done.updated.gradient_norm}


OPTIONS = [
    {"loss_reduction": "token_mean"},
    {"loss_reduction": "sequence_mean"},
    {"loss_reduction": "fixed_length"},
    {"mask_truncated": True},
    {"kl_coef": 0.1, "entropy_coef": 0.01, "dual_clip": 3.0},
    {"top_entropy_fraction": 0.5, "importance_correction": "token_truncated"},
]


def relative_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Of the gradient as one vector."""
    assert found.keys() == expected.keys()
    difference = sum((found[name] - expected[name]).double().square().sum() for name in expected)
    return float((difference / sum(value.double().square().sum() for value in expected.values())) ** 0.5)


@pytest.fixture
def whole_sequences(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """whole_sequences(True): prompt and response of every rollout in one padded row, nothing shared."""

    def switch(on: bool) -> None:
        monkeypatch.setattr(forward, "can_share_prompts", lambda policy: not on and can_share_prompts(policy))

    return switch


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options))
def test_the_gradient_is_that_of_one_big_padded_batch(
    policy: Policy, options: dict[str, object], whole_sequences: Callable[[bool], None]
):
    whole_sequences(True)
    expected, expected_metrics = gradients(policy, job(algorithm=options), IN_ORDER)
    assert expected_metrics["norm"] > 0
    for padded, max_tokens, order in [
        *((True, budget, IN_ORDER) for budget in (1, 24)),
        *((False, budget, IN_ORDER) for budget in (1, 24, 10_000)),
        *((padded, 10_000, SHUFFLED) for padded in (True, False)),
    ]:
        whole_sequences(padded)
        spec = job(algorithm=options, optim={"max_tokens_per_micro_batch": max_tokens})
        found, metrics = gradients(policy, spec, order)
        assert relative_error(found, expected) < 1e-5
        assert metrics == pytest.approx(expected_metrics, rel=1e-5, abs=1e-6)


def test_on_policy_the_old_log_probs_are_those_of_the_update_itself(policy: Policy):
    spec = job(algorithm={"kl_coef": 0.1, "entropy_coef": 0.01})
    given = batch(policy, IN_ORDER)
    logp, entropy = score(policy, given.sequences, 0.9, torch.float32, 10_000)
    known = take_update(policy, spec, replace(given, logp_old=logp, entropy_old=entropy))
    unknown = take_update(policy, spec, replace(given, logp_old=None, entropy_old=None))
    assert relative_error(unknown.gradient, known.gradient) < 1e-6
    torch.testing.assert_close(unknown.updated.logp, logp, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(unknown.updated.entropy, entropy, atol=1e-6, rtol=1e-5)
    assert unknown.updated.stats.metrics()["policy/ratio_max"] == 1.0


class TestWork:
    """What goes through the model, in tokens; the tests of speed are in bench/."""

    def test_each_prompt_once_and_no_response_to_its_last_token(self, policy: Policy):
        done = take_update(policy, job(), batch(policy, IN_ORDER))
        prompts = 3 * len(A)  # A, B and D padded to the longest; C has no response
        responses = 6 * (max(map(len, RESPONSES)) - 1)
        assert done.tokens == prompts + responses

    def test_rollouts_without_a_gradient_are_not_computed(self, policy: Policy):
        given = batch(policy, IN_ORDER)
        advantages = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.6, -1.1])
        done = take_update(policy, job(), replace(given, advantages=advantages))
        assert done.tokens == 2 * len(B) + 2 * (len(RESPONSES[5]) - 1)
        # They still count in the loss's denominator: all 13 tokens.
        alone = job(algorithm={"loss_reduction": "fixed_length"}, rollout={"max_new_tokens": 13})
        only = Sequences([B, D], [RESPONSES[5], RESPONSES[6]])
        other = take_update(
            policy,
            alone,
            Batch(
                sequences=only,
                advantages=advantages[5:],
                truncated=torch.zeros(2, dtype=torch.bool),
                logp_old=given.logp_old[-3:],
                entropy_old=given.entropy_old[-3:],
                logp_engine=given.logp_engine[-3:],
                logp_reference=None,
            ),
        )
        # fixed_length divides by 2 rollouts x 13 tokens, token_mean by the batch's 13.
        halves = {name: gradient / 2 for name, gradient in done.gradient.items()}
        assert relative_error(other.gradient, halves) < 1e-5

    def test_no_gradient_at_all_is_an_update_of_zeros_without_a_pass(self, policy: Policy):
        done = take_update(policy, job(), replace(batch(policy, IN_ORDER), advantages=torch.zeros(7)))
        assert done.tokens == 0
        assert done.updated.gradient_norm == 0
        assert set(done.gradient) == {name for name, _ in policy.model.named_parameters()}
        metrics = done.updated.stats.metrics()
        assert (metrics["policy/kl_old"], metrics["policy/ratio_max"]) == (None, None)
        assert metrics["policy/clip_fraction_low"] == 0


class TestMemory:
    @pytest.mark.parametrize("trained", ["policy", "adapted"])
    def test_recomputed_layers_give_the_same_gradient_in_less_memory(
        self, trained: str, request: pytest.FixtureRequest
    ):
        policy: Policy = request.getfixturevalue(trained)
        given = batch(policy, IN_ORDER)
        plain = take_update(policy, job(), given)
        frugal = take_update(policy, job(optim={"gradient_checkpointing": True}), given)
        assert max(gradient.abs().max() for gradient in plain.gradient.values()) > 0
        assert relative_error(frugal.gradient, plain.gradient) < 1e-5
        assert frugal.tokens == plain.tokens  # the prompts stay shared
        assert (plain.layer_passes, frugal.layer_passes) == (2, 4)  # prompts and responses, again on the way back

    def test_recomputed_layers_keep_little_for_the_way_back(self, policy: Policy):
        sequences = Sequences([A * 4] * 8, [A * 8] * 8)

        def alive() -> list[torch.Tensor]:
            gc.collect()
            return [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]

        def kept(recomputed: bool) -> int:
            """Bytes that are kept between the forward and the backward pass, by autograd or anybody else."""
            before = {each.untyped_storage().data_ptr() for each in alive()}
            storages: dict[int, int] = {}

            def keep(tensor: torch.Tensor) -> torch.Tensor:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with (
                recomputed_layers(policy, recomputed),
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            ):
                part = next(response_statistics(policy, sequences, 1.0, torch.float32, 10_000))
                for each in alive():
                    keep(each)
            assert part.logp.requires_grad
            return sum(size for place, size in storages.items() if place not in before)

        # The layers' inputs, and the prompts' keys and values: the rest is several times as much.
        assert kept(recomputed=True) < 0.2 * kept(recomputed=False)

    def test_a_full_memory_halves_the_budget_and_changes_nothing_else(self, policy: Policy):
        given = batch(policy, IN_ORDER)
        expected = take_update(policy, job(), given)
        told: list[int] = []
        done = take_update(policy, job(), given, budget=TokenBudget(4096, told.append), memory_tokens=10)
        assert told == [2048, 1024, 512, 256]
        assert relative_error(done.gradient, expected.gradient) < 1e-5

    def test_a_memory_that_is_too_small_is_said(self, policy: Policy):
        with pytest.raises(RunError, match="even with 256 tokens at a time") as caught:
            take_update(policy, job(), batch(policy, IN_ORDER), memory_tokens=0)
        assert caught.value.code == "out_of_memory"

    def test_the_estimate_follows_the_memory_and_the_model(self, policy: Policy, monkeypatch: pytest.MonkeyPatch):
        def estimate(gigabytes: float, dtype: torch.dtype = torch.float32) -> int:
            monkeypatch.setattr(token_budget, "device_memory_bytes", lambda device: int(gigabytes * 2**30))
            return token_budget.estimated_tokens(policy, dtype)

        # 3 layers x 128 x 34 bytes at 2 bytes an element: a quarter of 4 GiB is 82,241 tokens of it, 41,120 in float32.
        assert estimate(4) == 32768
        assert estimate(4, torch.bfloat16) == 65536
        assert (estimate(0.001), estimate(1000)) == (token_budget.SMALLEST, token_budget.LARGEST)


def test_a_model_that_forgets_is_given_whole_sequences(policy: Policy, small_mistral: Policy):
    assert can_share_prompts(policy)
    assert not can_share_prompts(small_mistral)
    logp, _ = score(small_mistral, Sequences(PROMPTS, RESPONSES), 1.0, torch.float32, 10_000)
    with torch.no_grad():
        logits = small_mistral.model(torch.tensor([A + RESPONSES[2]])).logits[0, len(A) - 1 : -1].log_softmax(-1)
    torch.testing.assert_close(logp[3:7], logits[range(4), RESPONSES[2]], atol=1e-5, rtol=1e-5)


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
    broken = batch(policy, IN_ORDER)
    broken.advantages[0] = torch.nan
    with pytest.raises(RunError, match="step 7") as caught:
        update(
            changed,
            make_optimizer(changed, spec.optim),
            spec,
            broken,
            step=7,
            compute_dtype=torch.float32,
            budget=budget_of(spec),
        )
    assert caught.value.step == 7
    for name, value in changed.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_learning_rate_warms_up_and_stays():
    spec = job(optim={"lr": 1.0, "warmup_steps": 3}).optim
    assert [learning_rate(spec, step) for step in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
