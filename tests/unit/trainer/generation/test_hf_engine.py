"""What comes out of the engine: right log-probs, right ends, and the same samples however they are batched."""

from collections.abc import Callable

import pytest
import torch

from trainer.engines import Generation, HfEngine
from trainer.models import Policy, position_ids

NAN = float("nan")
PROMPTS = [[4, 5, 13, 6, 16], [7], [3, 3, 12, 13, 4, 5, 6, 16, 8, 9], [5, 2, 0, 6], [9, 10, 16]]
"""Of several lengths; the fourth holds the pad id and an EOS, which are tokens like any other there."""


def generate(engine: HfEngine, prompts: list[list[int]] = PROMPTS, **changes: object) -> list[Generation]:
    arguments = {"samples_per_prompt": 6, "temperature": 0.8, "max_new_tokens": 12, "seed": (7, 1)}
    return engine.generate(prompts, **(arguments | changes))


def tokens(generations: list[Generation]) -> list[tuple[int, int, list[int], bool]]:
    return [(g.prompt_index, g.sample_index, g.token_ids, g.truncated) for g in generations]


@torch.no_grad()
def fresh_logprobs(policy: Policy, prompt: list[int], response: list[int], temperature: float) -> torch.Tensor:
    """One unpadded forward pass over one rollout, the plainest way there is."""
    ids = torch.tensor([prompt + response])
    mask = torch.ones_like(ids)
    logits = policy.hidden_states(ids, mask, position_ids(mask))[0].double() @ policy.lm_head_weight.double().T
    every = torch.log_softmax(logits / temperature, dim=-1)[len(prompt) - 1 : -1]
    return every.gather(1, torch.tensor(response)[:, None])[:, 0]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "gpt2"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_logprobs_agree_with_a_fresh_forward(make_policy: Callable[..., Policy], kind: str, temperature: float) -> None:
    policy = make_policy(kind)
    generations = generate(HfEngine(policy), temperature=temperature)
    for generation in generations:
        expected = fresh_logprobs(policy, PROMPTS[generation.prompt_index], generation.token_ids, temperature)
        torch.testing.assert_close(torch.tensor(generation.logprobs).double(), expected, rtol=0, atol=1e-4)
    assert {g.truncated for g in generations} == {True, False}  # Rows left at different times.


def test_responses_end_with_their_first_eos_or_are_truncated(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(eos_ids=frozenset({2, 9, 11}))
    generations = generate(HfEngine(policy), samples_per_prompt=20)
    ends = set()
    for generation in generations:
        ended = [token in policy.eos_ids for token in generation.token_ids]
        assert not any(ended[:-1])
        assert ended[-1] is not generation.truncated
        assert len(generation.logprobs) == len(generation.token_ids)
        assert generation.truncated <= (len(generation.token_ids) == 12)
        if not generation.truncated:
            ends.add(generation.token_ids[-1])
    assert ends == policy.eos_ids


def test_results_are_ordered_by_prompt_then_sample(policy: Policy) -> None:
    generations = generate(HfEngine(policy, max_batch_tokens=100))
    assert [(g.prompt_index, g.sample_index) for g in generations] == [(p, s) for p in range(5) for s in range(6)]


def test_a_pad_id_that_is_an_eos_changes_nothing(make_policy: Callable[..., Policy]) -> None:
    assert generate(HfEngine(make_policy(pad_id=2))) == generate(HfEngine(make_policy(pad_id=0)))


def test_the_same_call_gives_the_same_bits(policy: Policy) -> None:
    first = generate(HfEngine(policy))
    torch.manual_seed(99)  # The global generator has no part in it.
    assert generate(HfEngine(policy)) == first
    assert tokens(generate(HfEngine(policy), seed=(7, 2))) != tokens(first)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("max_batch_tokens", [1, 50, 150, 500])
def test_batching_does_not_change_the_samples(
    make_policy: Callable[..., Policy], kind: str, max_batch_tokens: int
) -> None:
    policy = make_policy(kind)
    whole = generate(HfEngine(policy))
    parts = generate(HfEngine(policy, max_batch_tokens=max_batch_tokens))
    assert tokens(parts) == tokens(whole)
    for a, b in zip(whole, parts, strict=True):
        # Some ten float32 roundings; products of other shapes are added up in another order.
        torch.testing.assert_close(torch.tensor(a.logprobs), torch.tensor(b.logprobs), rtol=1e-5, atol=1e-5)


def test_a_sample_depends_on_no_other(policy: Policy) -> None:
    whole = tokens(generate(HfEngine(policy)))
    assert tokens(generate(HfEngine(policy), PROMPTS[:2])) == [g for g in whole if g[0] < 2]
    assert tokens(generate(HfEngine(policy), samples_per_prompt=3)) == [g for g in whole if g[1] < 3]
    short = tokens(generate(HfEngine(policy), max_new_tokens=4))
    assert [g[2] for g in short] == [g[2][:4] for g in whole]


def test_samples_of_one_prompt_differ(policy: Policy) -> None:
    responses = [tuple(g.token_ids) for g in generate(HfEngine(policy), [PROMPTS[0]] * 2, temperature=1.5)]
    assert len(set(responses)) > 10  # Equal prompts at different places have streams of their own too.


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_greedy_is_what_transformers_generates(make_policy: Callable[..., Policy], kind: str) -> None:
    policy = make_policy(kind)
    for generation in generate(HfEngine(policy), samples_per_prompt=1, temperature=0):
        ids = torch.tensor([PROMPTS[generation.prompt_index]])
        expected = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert generation.token_ids == expected[0, ids.shape[1] :].tolist()
        assert generation.logprobs == [0.0] * len(generation.token_ids)


def test_work_is_counted_and_every_prompt_prefilled_once(policy: Policy) -> None:
    engine = HfEngine(policy)
    generations = generate(engine)
    longest = max(len(g.token_ids) for g in generations)
    assert engine.counters.prefill_passes == 1
    assert engine.counters.prefill_tokens == sum(map(len, PROMPTS))
    assert engine.counters.generated_tokens == sum(len(g.token_ids) for g in generations)
    assert engine.counters.decode_passes == longest - 1

    # Two rollouts at a time: the group of each prompt is split, its prefill is not repeated.
    engine = HfEngine(policy, max_batch_tokens=2 * (10 + 12))
    generate(engine)
    assert engine.counters.prefill_passes == len(PROMPTS)
    assert engine.counters.prefill_tokens == sum(map(len, PROMPTS))


def test_it_stops_when_every_rollout_has_ended(make_policy: Callable[..., Policy]) -> None:
    engine = HfEngine(make_policy(eos_ids=frozenset(range(18))))
    assert all(len(g.token_ids) == 1 and not g.truncated for g in generate(engine))
    assert engine.counters.decode_passes == 0


def test_no_batch_exceeds_the_budget(policy: Policy) -> None:
    widths = []

    def observe(module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, torch.Tensor]) -> None:
        widths.append(kwargs["attention_mask"].numel())

    with policy.backbone.register_forward_pre_hook(observe, with_kwargs=True):
        generate(HfEngine(policy, max_batch_tokens=200))
    assert 100 < max(widths) <= 200


def test_new_weights_are_used_at_once(policy: Policy) -> None:
    engine = HfEngine(policy)
    before = generate(engine)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.3)
    after = generate(engine)
    assert tokens(after) != tokens(before)
    for generation in after:
        expected = fresh_logprobs(policy, PROMPTS[generation.prompt_index], generation.token_ids, 0.8)
        torch.testing.assert_close(torch.tensor(generation.logprobs).double(), expected, rtol=0, atol=1e-4)


def test_train_mode_comes_back_and_dropout_has_no_part(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy("gpt2")
    expected = generate(HfEngine(policy))
    policy.model.train()
    assert generate(HfEngine(policy)) == expected
    assert policy.model.training


def test_bfloat16_computes_near_float32_and_keeps_the_weights(policy: Policy) -> None:
    engine = HfEngine(policy, compute_dtype=torch.bfloat16)
    differences = []
    for generation in generate(engine):
        expected = fresh_logprobs(policy, PROMPTS[generation.prompt_index], generation.token_ids, 0.8)
        differences.append((torch.tensor(generation.logprobs) - expected).abs().max().item())
    assert 1e-5 < max(differences) < 0.5
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_bfloat16_casts_each_weight_once_not_once_a_token(policy: Policy) -> None:
    with torch.profiler.profile(record_shapes=True) as profile:
        generate(HfEngine(policy, compute_dtype=torch.bfloat16))
    casts = [
        event
        for event in profile.events()
        if event.name == "aten::_to_copy" and list(event.input_shapes[0]) == [48, 32]  # Gate and up of the 2 layers.
    ]
    assert len(casts) == 4


def test_bad_arguments_are_refused(policy: Policy) -> None:
    engine = HfEngine(policy)
    assert generate(engine, []) == []
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(engine, [[4], []])
    for name, value in (("samples_per_prompt", 0), ("max_new_tokens", 0), ("temperature", -1.0), ("temperature", NAN)):
        with pytest.raises(ValueError, match="at least 1"):
            generate(engine, **{name: value})
    assert engine.counters.prefill_passes == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_diverged_weights_are_an_error(policy: Policy, temperature: float) -> None:
    with torch.no_grad():
        policy.lm_head_weight[5] = torch.nan
    with pytest.raises(FloatingPointError, match="diverged"):
        generate(HfEngine(policy), temperature=temperature)
    assert not policy.model.training
