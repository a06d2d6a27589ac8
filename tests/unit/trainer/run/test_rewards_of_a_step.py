"""What a step makes of rewards that its algorithm cannot take."""

from types import SimpleNamespace

import pytest
import torch

from trainer.errors import RunError
from trainer.loop import train_step
from trainer.spec import JobSpec


def test_rewards_that_are_not_binary_are_the_users_error_and_say_what_to_set():
    spec = JobSpec.model_validate(
        {"name": "x", "model": {"id": "builtin/tiny-arith"}, "data": {"train": "d"}, "reward": {"kind": "exact"}}
    )
    rewards = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    collected = SimpleNamespace(rewards=rewards, group_ids=torch.tensor([0, 0, 1, 1]))
    run = SimpleNamespace(spec=spec, sampler=SimpleNamespace(collect=lambda step: collected))
    with pytest.raises(RunError, match=r"step 7: rewards must be 0 or 1, got 0\.5 at index 1") as raised:
        train_step(run, 7)  # type: ignore[arg-type]
    assert (raised.value.code, raised.value.step) == ("reward_not_binary", 7)
    assert "algorithm.success_threshold" in raised.value.message
