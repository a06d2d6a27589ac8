"""The offloaded optimizer is torch's AdamW, to the bit, and so is what a checkpoint keeps of it."""

import copy

import pytest
import torch
from pydantic import ValidationError

from trainer.models import Policy
from trainer.offloaded_adamw import OffloadedAdamW
from trainer.spec import JobSpec
from trainer.update import optimizer_tensors, restore_optimizer


def groups(model: torch.nn.Module) -> list[dict[str, object]]:
    return [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]


def take_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * step
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.LayerNorm(7), torch.nn.Linear(7, 3))


def policy_of(model: torch.nn.Module) -> Policy:
    return Policy("path/x", model, None, frozenset({0}), 0)  # type: ignore[arg-type]


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_it_steps_as_adamw_does(model: torch.nn.Module):
    other = copy.deepcopy(model)
    take_steps(model, torch.optim.AdamW(groups(model), lr=0.1, betas=(0.9, 0.95)), 1, 5)
    take_steps(other, OffloadedAdamW(groups(other), lr=0.1, betas=(0.9, 0.95)), 1, 5)
    assert equal(model, other)


def test_a_checkpoint_of_one_goes_on_with_the_other(model: torch.nn.Module):
    whole, start = copy.deepcopy(model), copy.deepcopy(model)
    take_steps(whole, torch.optim.AdamW(groups(whole), lr=0.1, betas=(0.9, 0.95)), 1, 6)
    for first, second in ((OffloadedAdamW, torch.optim.AdamW), (torch.optim.AdamW, OffloadedAdamW)):
        model = copy.deepcopy(start)
        before = first(groups(model), lr=0.1, betas=(0.9, 0.95))
        take_steps(model, before, 1, 3)
        kept = {name: value.clone() for name, value in optimizer_tensors(policy_of(model), before).items()}
        assert len(kept) == 3 * len(list(model.parameters()))
        after = second(groups(model), lr=0.1, betas=(0.9, 0.95))
        restore_optimizer(policy_of(model), after, kept)
        take_steps(model, after, 4, 6)
        assert equal(model, whole)


def test_a_weight_without_a_gradient_stays(model: torch.nn.Module):
    optimizer = OffloadedAdamW(groups(model), lr=0.1, betas=(0.9, 0.95))
    before = copy.deepcopy(model)
    optimizer.step()
    assert equal(model, before)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


def test_several_gpus_spread_the_state_instead():
    spec = {
        "name": "x",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": "ds_1"},
        "reward": {"kind": "exact"},
        "optim": {"offload": True},
    }
    assert JobSpec.model_validate(spec).optim.offload
    with pytest.raises(ValidationError, match="offload is for one GPU"):
        JobSpec.model_validate({**spec, "resources": {"gpus": 2}})
