"""Bonuses by hand: DAPO's equation 13, a pattern, and what they may and may not move."""

import pytest
import torch

from trainer.advantages import advantages, correct_rollouts
from trainer.bonus import format_bonus, length_bonus, shifted, total_bonus
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.reward import FormatBonus, LengthBonus

ASYMGRPO = AlgorithmSpec.model_validate({})


def test_length_is_dapos_soft_overlong_punishment():
    # L_max 20480, L_cache 4096: 0 up to 16384, -1 from 20480 on, linear between (section 3.4 of the paper).
    bonus = LengthBonus(kind="length", weight=1.0, start=16384, end=20480)
    lengths = torch.tensor([0, 1, 16384, 16385, 18432, 20479, 20480, 30000])
    expected = [0.0, 0.0, 0.0, -1 / 4096, -0.5, -4095 / 4096, -1.0, -1.0]
    assert length_bonus(bonus, lengths, 1).tolist() == pytest.approx(expected, abs=0)


def test_length_ends_at_the_rollouts_limit_where_no_end_is_given():
    bonus = LengthBonus(kind="length", weight=0.5, start=4)
    assert length_bonus(bonus, torch.tensor([4, 6, 8]), max_new_tokens=8).tolist() == [0.0, -0.25, -0.5]


def test_format_is_given_where_the_pattern_is_found():
    bonus = FormatBonus(kind="format", weight=0.2, pattern=r"(?s)^<think>.*</think>")
    texts = ["<think>a\nb</think> 5", "5", "", "5 <think></think>", "<think>\ud800</think>"]
    assert format_bonus(bonus, texts).tolist() == [0.2, 0.0, 0.0, 0.0, 0.2]


def test_bonuses_add_up():
    bonuses = [
        LengthBonus(kind="length", weight=1.0, start=0, end=4),
        FormatBonus(kind="format", weight=0.5, pattern="a"),
    ]
    total = total_bonus(bonuses, ["a", "b"], torch.tensor([2, 0]), 8)
    assert total is not None
    assert total.tolist() == [0.0, 0.0]
    assert [str(value) for value in total.tolist()] == ["0.0", "0.0"]
    assert total_bonus([], ["a"], torch.tensor([1]), 8) is None


def test_the_advantage_by_hand():
    # One mixed group, p = 1/4: A+ = 3 ** 0.9, A- = -(1/3) ** 0.4. One solved group, whose advantages are 0.
    rewards = torch.tensor([1.0, 0, 0, 0, 1, 1], dtype=torch.float64)
    groups = torch.tensor([0, 0, 0, 0, 1, 1])
    bonus = torch.tensor([-0.4, 0.0, 0.0, -0.4, 0.3, 0.0], dtype=torch.float64)
    plain = advantages(ASYMGRPO, rewards, groups, step=1)
    right, wrong = 3**0.9, -((1 / 3) ** 0.4)
    expected = [right - 0.2, wrong + 0.2, wrong + 0.2, wrong - 0.2, 0.15, -0.15]
    assert shifted(plain, bonus, groups).tolist() == pytest.approx(expected, abs=1e-12)
    assert shifted(plain, None, groups) is plain
    # What is correct knows nothing of it.
    assert correct_rollouts(rewards, None).tolist() == [True, False, False, False, True, True]


def test_a_bonus_that_all_of_a_group_have_moves_nothing():
    plain = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    bonus = torch.tensor([0.5, 0.5, -1.0, -1.0], dtype=torch.float64)
    assert torch.equal(shifted(plain, bonus, torch.tensor([7, 7, 3, 3])), plain)


def test_a_shift_adds_nothing_to_a_group_whatever_the_order():
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 5, (40,), generator=generator)
    plain = torch.randn(40, generator=generator, dtype=torch.float64)
    bonus = torch.rand(40, generator=generator, dtype=torch.float64)
    moved = shifted(plain, bonus, groups)
    for group in range(5):
        of_group = groups == group
        assert moved[of_group].sum().item() == pytest.approx(plain[of_group].sum().item(), abs=1e-12)
        spread = (moved - plain)[of_group]
        assert torch.allclose(spread, bonus[of_group] - bonus[of_group].mean(), atol=1e-12)
