"""pass@k against counting every subset, and the interval against what the binomial says."""

import math
from itertools import combinations

import pytest
import torch

from trainer.coverage import bootstrap_interval, coverage_metrics, mean_pass_at_k, pass_at_k


@pytest.mark.parametrize("n", range(8))
def test_equals_counting_every_subset(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == sum(any(subset) for subset in subsets) / len(subsets)


def test_known_values() -> None:
    assert pass_at_k(4, 1, 4) == 1.0  # with replacement it would be 0.684
    assert pass_at_k(8, 2, 1) == 0.25
    assert pass_at_k(5, 0, 5) == 0.0
    assert pass_at_k(3, 2, 0) == 0.0
    assert pass_at_k(10, 3, 4) == 1 - 35 / 210


def test_exact_for_large_groups() -> None:
    assert pass_at_k(4096, 1, 2048) == 0.5
    assert pass_at_k(4096, 1, 1) == 1 / 4096
    # Far under what 1 - float(C / C) could tell from 0.
    assert pass_at_k(10**6, 1, 1) == 1e-6
    assert 0 < pass_at_k(4096, 4095, 1) < 1


@pytest.mark.parametrize(
    ("n", "c", "k", "complaint"),
    [
        (4, 1, 5, "pass@5 needs at least 5 samples, got 4"),
        (4, 5, 1, "5 correct samples of 4"),
        (-1, 0, 0, "negative"),
        (4, -1, 1, "negative"),
        (4, 1, -1, "negative"),
    ],
)
def test_bad_input_is_named(n: int, c: int, k: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        pass_at_k(n, c, k)


def test_mean_over_prompts() -> None:
    assert mean_pass_at_k([(4, 1), (4, 0), (8, 8)], 2) == (0.5 + 0 + 1) / 3
    with pytest.raises(ValueError, match="no prompts"):
        mean_pass_at_k([], 1)
    with pytest.raises(ValueError, match="got 1"):
        mean_pass_at_k([(4, 1), (1, 1)], 2)


def test_unbiased() -> None:
    """With a success rate of 0.3 the mean of the estimates over the binomial is the true pass@4, exactly."""
    n, k, rate = 9, 4, 0.3
    expected = sum(math.comb(n, c) * rate**c * (1 - rate) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert expected == pytest.approx(1 - (1 - rate) ** k, rel=1e-12)


class TestBootstrap:
    def test_contains_the_mean_and_is_reproducible(self) -> None:
        values = torch.rand(30, generator=torch.Generator().manual_seed(0)).tolist()
        low, high = bootstrap_interval(values, seed=3)
        assert low < sum(values) / len(values) < high
        assert bootstrap_interval(values, seed=3) == (low, high)
        assert bootstrap_interval(values, seed=4) != (low, high)

    def test_width_is_that_of_the_binomial(self) -> None:
        values = [1.0] * 200 + [0.0] * 300
        low, high = bootstrap_interval(values, resamples=20_000)
        sigma = math.sqrt(0.4 * 0.6 / 500)
        assert high - low == pytest.approx(2 * 1.959964 * sigma, rel=0.03)
        narrow = bootstrap_interval(values, confidence=0.5, resamples=20_000)
        assert narrow[1] - narrow[0] == pytest.approx(2 * 0.67449 * sigma, rel=0.1)

    def test_equal_values_have_no_width(self) -> None:
        assert bootstrap_interval([0.25] * 9) == (0.25, 0.25)
        assert bootstrap_interval([1.0]) == (1.0, 1.0)

    def test_large_benchmarks_are_resampled_in_parts(self) -> None:
        values = torch.rand(50_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
        low, high = bootstrap_interval(values, resamples=200)
        assert high - low == pytest.approx(2 * 1.96 * math.sqrt(1 / 12 / 50_000), rel=0.3)

    @pytest.mark.parametrize(("values", "confidence"), [([], 0.95), ([1.0], 0.0), ([1.0], 1.0)])
    def test_bad_input(self, values: list[float], confidence: float) -> None:
        with pytest.raises(ValueError, match=r"no values|confidence"):
            bootstrap_interval(values, confidence)


def test_coverage_metrics() -> None:
    counts = [(4, 1), (4, 4), (4, 0), (4, 2)]
    metrics = coverage_metrics("eval/tiny", counts, [1, 4], seed=1)
    assert set(metrics) == {f"eval/tiny/pass_at_k/{k}{end}" for k in (1, 4) for end in ("", "/low", "/high")}
    assert metrics["eval/tiny/pass_at_k/1"] == 7 / 16
    assert metrics["eval/tiny/pass_at_k/4"] == 3 / 4
    assert metrics["eval/tiny/pass_at_k/4/low"] <= 3 / 4 <= metrics["eval/tiny/pass_at_k/4/high"]
    assert all(type(value) is float for value in metrics.values())
