"""Advantages against numbers worked out by hand, the family's known members, and properties of any groups."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.advantages import (
    advantages,
    asymmetric_advantages,
    correct_rollouts,
    group_norm_advantages,
    mean_centered_advantages,
)
from trainer.spec.algorithm import AlgorithmSpec, Schedule
from trainer.spec.presets import PRESETS

ONE_GROUP = torch.zeros(8, dtype=torch.int64)
TWO_OF_EIGHT = torch.tensor([0.0, 1, 0, 0, 1, 0, 0, 0])

betas = st.floats(-2, 2)
group_ids_and_rewards = st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)


def group(n: int, correct: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([1.0] * correct + [0.0] * (n - correct), dtype=dtype)


def test_worked_example() -> None:
    # n = 8, p = 1/4, betas 0.9 / 0.4: 3 ** 0.9 and -(1/3) ** 0.4.
    result = asymmetric_advantages(TWO_OF_EIGHT, ONE_GROUP, 0.9, 0.4)
    expected = torch.where(TWO_OF_EIGHT == 1, 2.687875, -0.644394)
    torch.testing.assert_close(result, expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    rewards = TWO_OF_EIGHT.to(dtype)
    assert asymmetric_advantages(rewards, ONE_GROUP, 0.9, 0.4).dtype == dtype
    assert group_norm_advantages(rewards, ONE_GROUP).dtype == dtype
    assert mean_centered_advantages(rewards, ONE_GROUP).dtype == dtype


@pytest.mark.parametrize("n", [2, 3, 8, 5000])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9])
class TestKnownMembers:
    @pytest.fixture
    def rewards(self, n: int, share: float) -> torch.Tensor:
        return group(n, min(n - 1, max(1, round(share * n))))

    @pytest.fixture
    def ids(self, n: int) -> torch.Tensor:
        return torch.full((n,), 17)

    def test_reinforce(self, rewards: torch.Tensor, ids: torch.Tensor) -> None:
        assert torch.equal(asymmetric_advantages(rewards, ids, 0, 0), 2 * rewards - 1)

    def test_grpo_with_the_population_std(self, rewards: torch.Tensor, ids: torch.Tensor) -> None:
        by_definition = (rewards - rewards.mean()) / rewards.std(unbiased=False)
        torch.testing.assert_close(asymmetric_advantages(rewards, ids, 0.5, 0.5), by_definition, rtol=1e-12, atol=0)
        torch.testing.assert_close(group_norm_advantages(rewards, ids), by_definition, rtol=1e-12, atol=0)

    def test_maxrl(self, rewards: torch.Tensor, ids: torch.Tensor) -> None:
        p = rewards.mean()
        torch.testing.assert_close(asymmetric_advantages(rewards, ids, 1, 0), (rewards - p) / p, rtol=1e-12, atol=0)

    def test_one_sided_modulation(self, rewards: torch.Tensor, ids: torch.Tensor) -> None:
        p = rewards.mean()
        plus, minus = ((1 - p) / p).sqrt(), -(p / (1 - p)).sqrt()
        one = torch.ones_like(rewards)
        for beta_pos, beta_neg, correct, wrong in [
            (0.5, 0, plus, -one),
            (0, 0.5, one, minus),
            (-0.5, 0.5, 1 / plus, minus),
            (0.5, -0.5, plus, 1 / minus),
        ]:
            expected = torch.where(rewards == 1, correct, wrong)
            result = asymmetric_advantages(rewards, ids, beta_pos, beta_neg)
            torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)

    def test_w_reinforce_nsr_psr(self, rewards: torch.Tensor, ids: torch.Tensor) -> None:
        weighted = asymmetric_advantages(rewards, ids, 0, 0, pos_scale=0.1, uniform_groups="keep")
        assert torch.equal(weighted, torch.where(rewards == 1, torch.tensor(0.1, dtype=torch.float64), -1.0))
        assert torch.equal(asymmetric_advantages(rewards, ids, 0, 0, pos_scale=0), rewards - 1)
        assert torch.equal(asymmetric_advantages(rewards, ids, 0, 0, neg_scale=0), rewards)

    def test_dr_grpo(self, rewards: torch.Tensor, ids: torch.Tensor) -> None:
        torch.testing.assert_close(mean_centered_advantages(rewards, ids), rewards - rewards.mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("correct", [1, 2048, 4095])
def test_groups_of_4096(correct: int, dtype: torch.dtype) -> None:
    rewards = group(4096, correct, dtype)
    ids = torch.zeros(4096, dtype=torch.int64)
    odds = (4096 - correct) / correct
    result = asymmetric_advantages(rewards, ids, 2.0, -2.0)
    torch.testing.assert_close(result[0].item(), odds**2, rtol=1e-6, atol=0)
    torch.testing.assert_close(result[-1].item(), -(odds**2), rtol=1e-6, atol=0)
    assert result.isfinite().all()
    assert group_norm_advantages(rewards, ids).isfinite().all()


def test_uniform_groups() -> None:
    rewards = torch.tensor([1.0, 1, 0, 0, 1, 0])
    ids = torch.tensor([0, 0, 1, 1, 2, 2])
    assert asymmetric_advantages(rewards, ids, 0.9, 0.4).tolist() == [0, 0, 0, 0, 1, -1]
    kept = asymmetric_advantages(rewards, ids, 0.9, 0.4, 3, 2, uniform_groups="keep")
    assert kept.tolist() == [3, 3, -2, -2, 3, -2]
    # A group of one rollout is uniform too.
    assert asymmetric_advantages(torch.ones(1), torch.zeros(1, dtype=torch.int64), 0.9, 0.4).tolist() == [0]


def test_a_channel_of_scale_0_has_no_negative_zero() -> None:
    result = asymmetric_advantages(group(4, 1), torch.zeros(4, dtype=torch.int64), 0, 0, neg_scale=0)
    assert not torch.signbit(result).any()


@settings(max_examples=200, deadline=None)
@given(group_ids_and_rewards, betas, betas)
def test_sign_and_zero_on_uniform_groups(samples: list[tuple[int, float]], beta_pos: float, beta_neg: float) -> None:
    ids = torch.tensor([i for i, _ in samples])
    rewards = torch.tensor([r for _, r in samples])
    result = asymmetric_advantages(rewards, ids, beta_pos, beta_neg)
    for value, reward, own in zip(result.tolist(), rewards.tolist(), ids.tolist(), strict=True):
        if len(set(rewards[ids == own].tolist())) == 1:
            assert value == 0
        else:
            assert (value > 0) == (reward == 1)
            assert value != 0


@settings(max_examples=200, deadline=None)
@given(group_ids_and_rewards, betas, betas, st.randoms(use_true_random=False))
def test_permutation_equivariant(samples, beta_pos, beta_neg, random) -> None:
    shuffled = list(range(len(samples)))
    random.shuffle(shuffled)
    ids = torch.tensor([i for i, _ in samples])
    rewards = torch.tensor([r for _, r in samples])
    for estimate in (
        lambda r, g: asymmetric_advantages(r, g, beta_pos, beta_neg),
        group_norm_advantages,
        mean_centered_advantages,
    ):
        torch.testing.assert_close(
            estimate(rewards[shuffled], ids[shuffled]), estimate(rewards, ids)[shuffled], rtol=1e-6, atol=1e-7
        )


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 300), st.data(), st.floats(0.05, 2), st.floats(0.05, 2))
def test_monotone_in_accuracy(n: int, data: st.DataObject, beta_pos: float, beta_neg: float) -> None:
    """The easier the prompt, the less a success counts and the more a failure; a negative exponent turns that round."""
    c = data.draw(st.integers(1, n - 2))
    ids = torch.zeros(n, dtype=torch.int64)
    harder = asymmetric_advantages(group(n, c), ids, beta_pos, beta_neg)
    easier = asymmetric_advantages(group(n, c + 1), ids, beta_pos, beta_neg)
    assert harder[0] > easier[0]
    assert harder[-1] > easier[-1]
    flipped_harder = asymmetric_advantages(group(n, c), ids, -beta_pos, -beta_neg)
    flipped_easier = asymmetric_advantages(group(n, c + 1), ids, -beta_pos, -beta_neg)
    assert flipped_harder[0] < flipped_easier[0]
    assert flipped_harder[-1] < flipped_easier[-1]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 4096), st.data(), betas, betas)
def test_finite_for_any_group(n: int, data: st.DataObject, beta_pos: float, beta_neg: float) -> None:
    rewards = group(n, data.draw(st.integers(0, n)), torch.float32)
    ids = torch.zeros(n, dtype=torch.int64)
    assert asymmetric_advantages(rewards, ids, beta_pos, beta_neg).isfinite().all()


def test_unequal_groups_are_independent() -> None:
    sizes = [2, 5, 1, 8, 3]
    parts = [(torch.arange(n) % 2 == 0).double() for n in sizes]
    ids = torch.cat([torch.full((n,), 10 - i) for i, n in enumerate(sizes)])
    together = asymmetric_advantages(torch.cat(parts), ids, 0.9, 0.4)
    alone = [asymmetric_advantages(r, torch.zeros(len(r), dtype=torch.int64), 0.9, 0.4) for r in parts]
    assert torch.equal(together, torch.cat(alone))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=12))
def test_group_norm_of_any_rewards(rewards: list[float]) -> None:
    n = len(rewards)
    result = group_norm_advantages(torch.tensor(rewards, dtype=torch.float64), torch.zeros(n, dtype=torch.int64))
    assert result.isfinite().all()
    assert result.abs().max() <= math.sqrt(n - 1) * (1 + 1e-9)
    if result.any():
        assert abs(result.mean().item()) < 1e-9
        assert result.var(unbiased=False).item() == pytest.approx(1)
    else:
        assert max(rewards) - min(rewards) <= 1e-14 * max(map(abs, rewards))


@pytest.mark.parametrize("estimate", [group_norm_advantages, mean_centered_advantages])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_real_rewards_give_exactly_0(estimate, value: float, dtype: torch.dtype) -> None:
    rewards = torch.full((7,), value, dtype=dtype)
    assert not estimate(rewards, torch.zeros(7, dtype=torch.int64)).any()


def test_nearly_uniform_groups_do_not_blow_up() -> None:
    ids = torch.zeros(8, dtype=torch.int64)
    rewards = torch.full((8,), 0.3, dtype=torch.float64)
    rewards[0] = 0.1 + 0.2  # one unit in the last place more
    assert rewards[0] != rewards[1]
    assert not group_norm_advantages(rewards, ids).any()
    # A difference that is real, however small, has the size of any other: the estimator has no scale.
    rewards[0] = 0.3 + 1e-9
    expected = torch.tensor([math.sqrt(7)] + [-1 / math.sqrt(7)] * 7, dtype=torch.float64)
    torch.testing.assert_close(group_norm_advantages(rewards, ids), expected, rtol=1e-6, atol=0)
    # An offset that dwarfs the spread costs no digits.
    shifted = torch.tensor([1e6, 1e6 + 8, 1e6 + 16], dtype=torch.float32)
    expected = torch.tensor([-1.2247449, 0, 1.2247449])
    torch.testing.assert_close(group_norm_advantages(shifted, ids[:3]), expected)


@pytest.mark.parametrize(
    ("rewards", "ids", "complaint"),
    [
        (torch.tensor([]), torch.tensor([], dtype=torch.int64), "rewards is empty"),
        (torch.tensor([1.0, 0]), torch.tensor([0]), "same length"),
        (torch.tensor([1.0, math.nan]), torch.tensor([0, 0]), "finite, got nan at index 1"),
        (torch.tensor([math.inf, 0]), torch.tensor([0, 0]), "finite, got inf at index 0"),
        (torch.tensor([1.0, 0.5]), torch.tensor([0, 0]), "0 or 1, got 0.5 at index 1"),
        (torch.tensor([1.0, -1]), torch.tensor([0, 0]), "0 or 1, got -1.0 at index 1"),
        (torch.tensor([[1.0, 0]]), torch.tensor([[0, 0]]), "one-dimensional"),
        (torch.tensor([1, 0]), torch.tensor([0, 0]), "floating-point, got torch.int64"),
        (torch.tensor([1.0, 0]), torch.tensor([0.0, 0]), "integers, got torch.float32"),
    ],
)
def test_bad_input_is_named(rewards: torch.Tensor, ids: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        asymmetric_advantages(rewards, ids, 0.9, 0.4)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"beta_pos": math.nan, "beta_neg": 0.0}, "beta_pos must be finite"),
        ({"beta_pos": 0.0, "beta_neg": math.inf}, "beta_neg must be finite"),
        ({"beta_pos": 0.0, "beta_neg": 0.0, "pos_scale": -1.0}, "pos_scale"),
        ({"beta_pos": 0.0, "beta_neg": 0.0, "neg_scale": math.nan}, "neg_scale"),
        ({"beta_pos": 0.0, "beta_neg": 0.0, "uniform_groups": "drop"}, "uniform_groups"),
        ({"beta_pos": 200.0, "beta_neg": 0.0}, "overflow torch.float32"),
    ],
)
def test_bad_coefficients_are_named(arguments: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        asymmetric_advantages(TWO_OF_EIGHT, ONE_GROUP, **arguments)


def test_correct_rollouts() -> None:
    rewards = torch.tensor([0.0, 0.5, 1.0, 1.2])
    assert correct_rollouts(rewards, None).tolist() == [False, False, True, False]
    assert correct_rollouts(rewards, 0.5).tolist() == [False, True, True, True]
    with pytest.raises(ValueError, match="finite"):
        correct_rollouts(torch.tensor([math.nan]), 0.5)


class TestDispatch:
    def test_every_preset(self) -> None:
        """Each preset on a group of 8 with 2 correct and on one that is all wrong."""
        rewards = torch.cat([TWO_OF_EIGHT, torch.zeros(8)])
        ids = torch.arange(16) // 8
        grpo = (3**0.5, -(3**-0.5), 0)
        expected = {
            "reinforce": (1, -1, -1),
            "grpo": grpo,
            "grpo_entropy": grpo,
            "grpo_clip_higher": grpo,
            "dapo": grpo,
            "dr_grpo": (0.75, -0.25, 0),
            "maxrl": (3, -1, 0),
            "w_reinforce": (0.1, -1, -1),
            "pos_only": (3**0.5, -1, 0),
            "neg_only": (1, -(3**-0.5), 0),
            "ent_decrease": (3**-0.5, -(3**-0.5), 0),
            "ent_increase": (3**0.5, -(3**0.5), 0),
            "asymgrpo": (2.687875, -0.644394, 0),
            "asymgrpo_clip_higher": (2.687875, -0.644394, 0),
        }
        assert expected.keys() <= PRESETS.keys()
        for preset, (correct, wrong, uniform) in expected.items():
            result = advantages(AlgorithmSpec(preset=preset), rewards, ids, step=1)
            by_hand = torch.where(rewards == 1, float(correct), float(wrong))
            by_hand[8:] = uniform
            torch.testing.assert_close(result, by_hand, rtol=1e-6, atol=1e-6, msg=preset)

    def test_schedules_move_the_exponents(self) -> None:
        spec = AlgorithmSpec(
            beta_pos=Schedule(kind="linear", start=0.0, end=1.0, steps=10),
            beta_neg=Schedule(kind="cosine", start=1.0, end=0.0, steps=10),
        )
        for step, beta_pos, beta_neg in [(1, 0, 1), (6, 0.5, 0.5), (11, 1, 0), (500, 1, 0)]:
            result = advantages(spec, TWO_OF_EIGHT, ONE_GROUP, step)
            expected = asymmetric_advantages(TWO_OF_EIGHT, ONE_GROUP, beta_pos, beta_neg)
            torch.testing.assert_close(result, expected)

    def test_threshold_makes_rewards_binary_where_they_must_be(self) -> None:
        rewards = torch.tensor([0.2, 0.6, 0.9, 0.0])
        ids = torch.zeros(4, dtype=torch.int64)
        with pytest.raises(ValueError, match="success_threshold"):
            advantages(AlgorithmSpec(), rewards, ids, 1)
        result = advantages(AlgorithmSpec(preset="reinforce", success_threshold=0.6), rewards, ids, 1)
        assert result.tolist() == [-1, 1, 1, -1]
        raw = advantages(AlgorithmSpec(preset="dr_grpo", success_threshold=0.6), rewards, ids, 1)
        torch.testing.assert_close(raw, rewards - rewards.mean())
