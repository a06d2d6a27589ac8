"""The channels' entropies by hand, the drives against finite differences, and the same numbers in any order."""

import json
import math

import pytest
import torch

from trainer.entropy_channels import StepTokens, change_metrics, channel_metrics, rollout_entropies
from trainer.spec.metric_keys import DIFFICULTY_BUCKETS, is_known


def packed(lengths: list[int], correct: list[int], advantage: list[float], groups: list[int]) -> StepTokens:
    return StepTokens(
        torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        torch.tensor(correct, dtype=torch.bool),
        torch.tensor(advantage),
        torch.tensor(groups),
    )


def test_by_hand() -> None:
    tokens = packed([1, 2, 1], [1, 0, 0], [2.0, -1.0, -1.0], [0, 0, 1])
    logp = torch.tensor([-1.0, -2.0, -3.0, -2.0])
    entropy = torch.tensor([0.5, 1.0, 2.0, 3.0])
    metrics = channel_metrics(tokens, logp, entropy)
    assert metrics["entropy/policy"] == 6.5 / 4
    assert metrics["entropy/informative"] == 0.5
    assert metrics["entropy/spurious"] == 2.0
    assert metrics["entropy/informative_tokens"] == 1
    assert metrics["entropy/spurious_tokens"] == 3
    # mean logp -2, mean A -1/4: c = [1 * 9/4, 0, -1 * -3/4, 0].
    assert metrics["entropy/drive_informative"] == -9 / 16
    assert metrics["entropy/drive_spurious"] == -3 / 16
    # Group 0 is half solved, group 1 not at all.
    assert metrics["entropy/bucket/25_50"] == 3.5 / 3
    assert metrics["entropy/bucket/0"] == 3.0
    assert metrics["entropy/bucket/100"] is None
    changes = change_metrics(tokens, logp, logp + torch.tensor([0.25, -1, 1, 0.5]), entropy, entropy * 2)
    assert changes["logprob/gain_correct"] == 0.25
    assert changes["logprob/gain_incorrect"] == 0.5 / 3
    assert changes["entropy/realised_informative"] == 0.5
    assert changes["entropy/realised_spurious"] == 2.0
    assert changes["logprob/gain/bucket/25_50"] == 0.25 / 3
    assert changes["logprob/gain/bucket/0"] == 0.5
    assert changes["logprob/gain/bucket/50_75"] is None


def test_an_empty_channel_is_undefined_and_never_0() -> None:
    all_wrong = packed([2, 3], [0, 0], [-1.0, -1.0], [0, 0])
    some = torch.rand(5)
    metrics = channel_metrics(all_wrong, -some, some)
    assert metrics["entropy/informative"] is None
    assert metrics["entropy/informative_tokens"] == 0
    assert metrics["entropy/spurious"] == metrics["entropy/policy"]
    assert metrics["entropy/drive_informative"] == 0
    changes = change_metrics(all_wrong, -some, -some, some, some)
    assert changes["logprob/gain_correct"] is None
    assert changes["entropy/realised_informative"] is None
    # A correct rollout that is empty has no tokens either.
    assert channel_metrics(packed([0, 5], [1, 0], [1.0, -1.0], [0, 0]), -some, some)["entropy/informative"] is None


def test_no_tokens_at_all() -> None:
    tokens = packed([0, 0], [1, 0], [1.0, -1.0], [0, 0])
    nothing = torch.zeros(0)
    metrics = channel_metrics(tokens, nothing, nothing) | change_metrics(tokens, nothing, nothing, nothing, nothing)
    counts = {key: value for key, value in metrics.items() if value is not None}
    assert counts == {"entropy/informative_tokens": 0, "entropy/spurious_tokens": 0}
    assert rollout_entropies(tokens, nothing) == [None, None]


def test_every_key_is_in_the_vocabulary_and_serialisable() -> None:
    tokens = packed([2, 3], [1, 0], [1.0, -1.0], [0, 0])
    some = torch.rand(5)
    metrics = channel_metrics(tokens, -some, some) | change_metrics(tokens, -some, -some, some, some)
    assert all(is_known(key) for key in metrics)
    assert all(value is None or type(value) in (int, float) for value in metrics.values())
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 16, 100])
def test_difficulty_buckets(n: int) -> None:
    for c in range(n + 1):
        tokens = packed([1] * n, [1] * c + [0] * (n - c), [0.0] * n, [5] * n)
        p = c / n
        expected = (
            "0"
            if c == 0
            else "100"
            if c == n
            else next(
                name for name, bound in (("0_25", 0.25), ("25_50", 0.5), ("50_75", 0.75), ("75_100", 1)) if p <= bound
            )
        )
        assert {DIFFICULTY_BUCKETS[i] for i in tokens.bucket.tolist()} == {expected}


class TestDrives:
    """A tabular softmax over four actions, each sampled exactly as often as its probability says, is the population
    that the predictor speaks of; stepping its logits along the centred advantages must move the entropy as predicted.
    """

    counts = torch.tensor([8, 4, 2, 2])
    advantage = torch.tensor([-0.6, 1.5, -0.6, 2.0], dtype=torch.float64)
    correct = torch.tensor([False, True, False, True])

    @pytest.fixture
    def logits(self) -> torch.Tensor:
        return (self.counts / self.counts.sum()).double().log()

    @pytest.fixture
    def metrics(self, logits: torch.Tensor) -> dict:
        action = torch.repeat_interleave(torch.arange(4), self.counts)
        tokens = StepTokens(
            torch.arange(len(action)), self.correct[action], self.advantage[action], torch.zeros_like(action)
        )
        logp = torch.log_softmax(logits, 0)[action]
        return channel_metrics(tokens, logp, torch.full((len(action),), 1.0))

    def measured(self, logits: torch.Tensor, direction: torch.Tensor) -> float:
        def entropy(size: float) -> float:
            logp = torch.log_softmax(logits + size * direction, 0)
            return -(logp.exp() * logp).sum().item()

        return (entropy(1e-5) - entropy(-1e-5)) / 2e-5

    def test_they_add_up_to_the_entropy_change(self, logits: torch.Tensor, metrics: dict) -> None:
        total = metrics["entropy/drive_informative"] + metrics["entropy/drive_spurious"]
        # The softmax does not see a constant, so the advantages need not be centred here.
        assert total == pytest.approx(self.measured(logits, self.advantage), rel=1e-8)
        probability = logits.exp()
        logp = logits - (probability * logits).sum()
        covariance = (probability * logp * (self.advantage - (probability * self.advantage).sum())).sum().item()
        assert total == pytest.approx(-covariance, rel=1e-12)

    def test_each_is_the_change_that_its_own_tokens_make(self, logits: torch.Tensor, metrics: dict) -> None:
        centered = self.advantage - (logits.exp() * self.advantage).sum()
        for key, channel in (("informative", self.correct), ("spurious", ~self.correct)):
            measured = self.measured(logits, centered * channel)
            assert metrics[f"entropy/drive_{key}"] == pytest.approx(measured, rel=1e-8)


def test_order_and_length_of_rollouts_do_not_show() -> None:
    """Bit for bit: sums are exact, so no order of the same rollouts gives other numbers."""
    generator = torch.Generator().manual_seed(0)
    rollouts = 40
    lengths = torch.randint(0, 30, (rollouts,), generator=generator)
    correct = torch.rand(rollouts, generator=generator) < 0.4
    advantage = torch.randn(rollouts, generator=generator)
    groups = torch.randint(0, 7, (rollouts,), generator=generator)
    values = [torch.randn(4, int(n), generator=generator).abs() for n in lengths]

    def metrics(order: list[int]) -> dict:
        tokens = StepTokens(
            torch.repeat_interleave(torch.arange(rollouts), lengths[order]),
            correct[order],
            advantage[order],
            groups[order] * 3 - 5,
        )
        before, after, h_before, h_after = torch.cat([values[i] for i in order], 1)
        return channel_metrics(tokens, -before, h_before) | change_metrics(tokens, -before, -after, h_before, h_after)

    expected = metrics(list(range(rollouts)))
    for seed in range(5):
        assert metrics(torch.randperm(rollouts, generator=torch.Generator().manual_seed(seed)).tolist()) == expected


def test_rollout_entropies() -> None:
    tokens = packed([2, 0, 1], [1, 0, 0], [1.0, -1.0, -1.0], [0, 0, 0])
    assert rollout_entropies(tokens, torch.tensor([1.0, 2.0, 0.25])) == [1.5, None, 0.25]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"correct": torch.tensor([True])}, "one entry per rollout"),
        ({"correct": torch.tensor([1, 0])}, "correct must be bool"),
        ({"rollout": torch.tensor([0, 2])}, r"rollout must lie in \[0, 2\)"),
    ],
)
def test_bad_input_is_named(change: dict, complaint: str) -> None:
    fields = {
        "rollout": torch.tensor([0, 1]),
        "correct": torch.tensor([True, False]),
        "advantage": torch.tensor([1.0, -1.0]),
        "group_ids": torch.tensor([0, 0]),
    }
    with pytest.raises(ValueError, match=complaint):
        StepTokens(**{**fields, **change})
    with pytest.raises(ValueError, match="entropy must be"):
        channel_metrics(StepTokens(**fields), torch.zeros(2), torch.zeros(3))


def test_single_precision_inputs_are_summed_in_double() -> None:
    tokens = packed([100_000, 1], [0, 1], [0.0, 0.0], [0, 0])
    entropy = torch.full((100_001,), 0.1)
    assert channel_metrics(tokens, -entropy, entropy)["entropy/policy"] == entropy[0].double().item()
    assert math.isclose(entropy[0].item(), 0.1, rel_tol=1e-7)
