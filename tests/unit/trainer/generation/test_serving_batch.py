"""Samples that join a batch on the way are those that they would be alone, or in the trainer's own engine."""

import pytest
import torch

from trainer.engines import HfEngine
from trainer.serving.batch import Batch, Sample
from trainer.serving.choosing import choose

PROMPTS = [(4, 5, 13, 6, 16), (7,), (3, 3, 12, 13, 4, 5, 6, 16, 8, 9)]
LONGEST = 12


def sample(prompt, number, **changes):
    given = {"temperature": 0.8, "top_p": 1.0, "seed": 7, "logprobs": None, "max_tokens": LONGEST} | changes
    return Sample(f"r{prompt}", number, (prompt, number), PROMPTS[prompt], **given)


def drawn(batch, found, steps=1):
    """Goes on for so many steps; tokens by the place of their sample."""
    for _ in range(steps):
        for each in batch.step():
            found.setdefault(each.sample.place, []).append(each)
    return found


def token_ids(found):
    return {place: [each.token_id for each in tokens] for place, tokens in found.items()}


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "gpt2"])
def test_newcomers_change_nobody_and_get_what_the_engine_gives(make_policy, kind):
    policy = make_policy(kind)
    generations = HfEngine(policy).generate(
        PROMPTS, samples_per_prompt=4, temperature=0.8, max_new_tokens=LONGEST, seed=(7,)
    )
    expected = {(each.prompt_index, each.sample_index): each.token_ids for each in generations}
    policy.model.eval()
    batch, found = Batch(policy, compute_dtype=torch.float32), {}
    # The longest prompt last, so that the others are moved to the right; with fewer rows left by then.
    for prompt in (1, 0, 2):
        batch.add([sample(prompt, number) for number in range(4)])
        drawn(batch, found, 2)
    while not batch.idle:
        drawn(batch, found)
    assert token_ids(found) == expected
    for tokens in found.values():
        assert [each.last for each in tokens] == [False] * (len(tokens) - 1) + [True]
        assert tokens[-1].ended is (tokens[-1].token_id == 2)


def test_what_finds_no_room_waits_and_is_drawn_all_the_same(make_policy):
    policy = make_policy("llama")
    policy.model.eval()
    alone = Batch(policy, compute_dtype=torch.float32)
    samples = [sample(prompt, number) for prompt in range(3) for number in range(2)]
    alone.add(samples)
    wide: dict = {}
    while not alone.idle:
        drawn(alone, wide)
    tight, found = Batch(policy, compute_dtype=torch.float32, max_batch_tokens=30), {}
    tight.add(samples)
    most = 0
    while not tight.idle:
        before = sum(map(len, found.values()))
        drawn(tight, found)
        most = max(most, sum(map(len, found.values())) - before)
    assert most <= 2
    assert token_ids(found) == token_ids(wide)


def test_what_is_dropped_is_drawn_no_more_and_the_others_go_on(make_policy):
    policy = make_policy("llama")
    policy.model.eval()
    expected: dict = {}
    batch = Batch(policy, compute_dtype=torch.float32)
    batch.add([sample(0, number) for number in range(3)])
    while not batch.idle:
        drawn(batch, expected)
    found: dict = {}
    batch.add([sample(0, number) for number in range(3)] + [sample(2, number) for number in range(3)])
    drawn(batch, found)
    batch.drop("r2")
    batch.drop("r0", 1)
    while not batch.idle:
        drawn(batch, found)
    assert {place: len(tokens) for place, tokens in found.items() if place[0] == 2 or place == (0, 1)} == {
        (2, 0): 1, (2, 1): 1, (2, 2): 1, (0, 1): 1,
    }  # fmt: skip
    assert token_ids(found)[0, 0] == token_ids(expected)[0, 0]
    assert token_ids(found)[0, 2] == token_ids(expected)[0, 2]


def test_logprobs_are_the_models_own_whatever_the_temperature(make_policy):
    policy = make_policy("llama")
    policy.model.eval()
    batch, found = Batch(policy, compute_dtype=torch.float32), {}
    batch.add([sample(0, 0, temperature=0.3, logprobs=4), sample(0, 1, logprobs=0), sample(1, 0)])
    drawn(batch, found)
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, -1]
    expected = torch.log_softmax(logits, dim=-1)
    [first], [second], [third] = found[0, 0], found[0, 1], found[1, 0]
    assert first.logprob == pytest.approx(float(expected[first.token_id]), abs=1e-4)
    assert [value for _, value in first.likely] == pytest.approx(expected.topk(4).values.tolist(), abs=1e-4)
    assert (second.logprob is None, second.likely) == (False, [])
    assert (third.logprob, third.likely) == (None, [])


def test_each_row_is_drawn_by_its_own_temperature_and_top_p():
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.3, 0.2]])).repeat(2001, 1)
    uniform = torch.linspace(0, 1, 2001, dtype=torch.float64)

    def shares(temperature, top_p):
        rows = len(uniform)
        chosen = choose(logits, torch.full((rows,), temperature), torch.full((rows,), top_p), uniform)
        return torch.bincount(chosen, minlength=4) / rows

    assert shares(1.0, 1.0).tolist() == pytest.approx([0.1, 0.4, 0.3, 0.2], abs=2e-3)
    # The likeliest that together have 0.7 are two; with 0.71 a third is needed.
    assert shares(1.0, 0.7).tolist() == pytest.approx([0, 4 / 7, 3 / 7, 0], abs=2e-3)
    assert shares(1.0, 0.71).tolist() == pytest.approx([0, 4 / 9, 3 / 9, 2 / 9], abs=2e-3)
    assert shares(1.0, 0.01).tolist() == [0, 1, 0, 0]
    assert shares(0.0, 1.0).tolist() == [0, 1, 0, 0]
    squares = [0.01, 0.16, 0.09, 0.04]
    assert shares(0.5, 1.0).tolist() == pytest.approx([each / sum(squares) for each in squares], abs=2e-3)
    mixed = choose(logits[:2], torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.999, 0.0]).double())
    assert mixed.tolist() == [1, 0]
    with pytest.raises(FloatingPointError):
        choose(torch.full((1, 4), torch.nan), torch.ones(1), torch.ones(1), torch.zeros(1, dtype=torch.float64))
