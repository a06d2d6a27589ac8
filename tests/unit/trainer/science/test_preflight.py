"""What rollouts tell before the first step: the share of groups without a gradient, and its interval."""

import random

import pytest
import torch

from trainer.engines import Generation
from trainer.preflight import share_without_gradient, wilson
from trainer.spec import JobSpec


def spec(**sections):
    return JobSpec.model_validate(
        {
            "name": "n",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "t"},
            "reward": {"kind": "exact", **sections.pop("reward", {})},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            **sections,
        }
    )


def sampled(correct):
    """Generations and rewards of these prompts' rollouts, given as 0s and 1s."""
    rows = [(prompt, sample) for prompt, ones in enumerate(correct) for sample in range(len(ones))]
    generations = [Generation(prompt, sample, [5] * (1 + sample % 2), [0.0], False) for prompt, sample in rows]
    return generations, torch.tensor([float(one) for ones in correct for one in ones], dtype=torch.float64)


def share(spec, correct):
    generations, rewards = sampled(correct)
    return share_without_gradient(spec, generations, ["7"] * len(rewards), rewards, len(correct[0]))


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and the mirror image of one of them.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
     (20, 20, 0.8389, 1.0)],
)  # fmt: skip
def test_the_interval_is_wilsons(hits, trials, low, high):
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_no_interval_of_what_is_no_share(hits, trials):
    with pytest.raises(ValueError, match=f"{hits} of {trials}"):
        wilson(hits, trials)


def test_uniform_groups_give_no_gradient():
    found = share(spec(), [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert (found.share, found.groups) == (0.75, 4)
    assert (found.low, found.high) == wilson(3, 4)


def test_groups_are_as_large_as_those_of_training():
    # As one group of nine it has a contrast; training would see two of four, and the ninth in neither.
    found = share(spec(preflight={"samples": 9}), [[1, 1, 1, 1, 0, 0, 0, 0, 1]])
    assert (found.share, found.groups) == (1.0, 2)


def test_the_order_of_the_rollouts_does_not_matter():
    generations, rewards = sampled([[0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 1, 0]])
    order = random.Random(0).sample(range(16), 16)
    shuffled = share_without_gradient(spec(), [generations[i] for i in order], ["7"] * 16, rewards[order], 8)
    assert shuffled.share == 0.5


def test_the_algorithm_says_what_a_gradient_is():
    # REINFORCE with rewards as they are has no baseline: a group that is all right has a gradient.
    correct = [[1, 1, 1, 1], [0, 0, 0, 0]]
    assert share(spec(algorithm={"preset": "grpo"}), correct).share == 1.0
    assert share(spec(algorithm={"preset": "pos_only"}), correct).share == 1.0
    assert share(spec(algorithm={"preset": "reinforce"}), correct).share < 1.0


def test_a_bonus_gives_one():
    bonus = [{"kind": "length", "start": 1, "end": 2, "weight": 0.5}]
    assert share(spec(reward={"bonus": bonus}), [[0, 0, 0, 0]]).share == 0.0
