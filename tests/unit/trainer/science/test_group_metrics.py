"""Group metrics by hand, for unequal groups, in any order."""

import json
import math

import pytest
import torch

from trainer.group_metrics import group_metrics
from trainer.groups import Groups
from trainer.spec.metric_keys import is_known

# Groups of 4, 3 and 5 rollouts with 1, 0 and 5 correct.
IDS = torch.tensor([7] * 4 + [2] * 3 + [9] * 5)
REWARDS = torch.tensor([1.0, 0, 0, 0] + [0.0] * 3 + [1.0] * 5)
ADVANTAGES = torch.tensor([3.0, -1, -1, -1] + [0.0] * 8)


def metrics(order: list[int] | None = None) -> dict:
    order = list(range(12)) if order is None else order
    return group_metrics(REWARDS[order], REWARDS[order] == 1, IDS[order], ADVANTAGES[order])


def test_by_hand() -> None:
    result = metrics()
    assert result == {
        "group/accuracy": pytest.approx((1 / 4 + 0 + 1) / 3),
        "group/none_solved": 1 / 3,
        "group/mixed": 1 / 3,
        "group/all_solved": 1 / 3,
        "group/effective": 1 / 3,
        "group/histogram": [1, 1, 0, 0, 0, 1],
        "group/size_min": 3,
        "group/size_max": 5,
        "reward/mean": 0.5,
        "reward/std": 0.5,
        # Up to the smallest group's size, 3.
        "pass_at_k/train/1": pytest.approx((1 / 4 + 0 + 1) / 3),
        "pass_at_k/train/2": pytest.approx((1 / 2 + 0 + 1) / 3),
    }
    assert all(is_known(key) for key in result)
    json.dumps(result, allow_nan=False)


def test_order_does_not_matter() -> None:
    for seed in range(5):
        assert metrics(torch.randperm(12, generator=torch.Generator().manual_seed(seed)).tolist()) == metrics()


def test_real_rewards() -> None:
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.4])
    result = group_metrics(rewards, rewards >= 0.3, torch.zeros(4, dtype=torch.int64), rewards - rewards.mean())
    assert result["group/accuracy"] == 0.25
    assert result["group/effective"] == 1
    assert result["reward/std"] == pytest.approx(rewards.std(unbiased=False).item())
    same = torch.full((7,), 0.1)
    assert group_metrics(same, same > 1, torch.arange(7), torch.zeros(7))["reward/std"] == 0


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="advantages must be"):
        group_metrics(REWARDS, REWARDS == 1, IDS, ADVANTAGES[1:])
    nothing = torch.zeros(0)
    with pytest.raises(ValueError, match="empty"):
        group_metrics(nothing, nothing == 1, nothing.long(), nothing)


def test_groups() -> None:
    groups = Groups.of(torch.tensor([5, -2, 5, 9, -2, 5]))
    values = torch.tensor([1.0, 2, 3, 4, -5, 6])
    assert groups.index.tolist() == [1, 0, 1, 2, 0, 1]
    assert groups.sizes.tolist() == [2, 3, 1]
    assert groups.count == 3
    assert groups.sum(values).tolist() == [-3, 10, 4]
    assert groups.mean(values).tolist() == pytest.approx([-1.5, 10 / 3, 4])
    assert groups.minimum(values).tolist() == [-5, 1, 4]
    assert groups.maximum(values).tolist() == [2, 6, 4]
    assert math.isclose(groups.mean(values.double())[1].item(), 10 / 3)
