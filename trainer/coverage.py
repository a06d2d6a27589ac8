"""pass@k without bias, over prompts, with an interval that says how far the prompts at hand pin it down."""

from collections.abc import Sequence
from fractions import Fraction
from math import comb, fsum

import torch

from trainer.spec.events import Metrics

CONFIDENCE = 0.95
RESAMPLES = 1000
_RESAMPLES_AT_ONCE_ELEMENTS = 2**22


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that k of a prompt's n samples, drawn without replacement, hold one of its c correct ones.

    1 - C(n - c, k) / C(n, k), arXiv 2107.03374 equation 1: the unbiased estimator, exact to the last bit (it is
    computed in whole numbers). pass@0 is 0. ValueError when k > n, c > n or anything is negative.
    """
    if min(n, c, k) < 0:
        raise ValueError(f"n, c and k must not be negative, got n={n}, c={c}, k={k}")
    if c > n:
        raise ValueError(f"{c} correct samples of {n}")
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, got {n}")
    return float(1 - Fraction(comb(n - c, k), comb(n, k)))


def pass_at_k_per_prompt(counts: Sequence[tuple[int, int]], k: int) -> list[float]:
    """pass@k of each prompt. counts: (n samples, c correct) of each. ValueError as `pass_at_k`."""
    known = {count: pass_at_k(*count, k) for count in set(counts)}
    return [known[count] for count in counts]


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int) -> float:
    """The mean over prompts, each counting the same. ValueError as `pass_at_k`, and without prompts."""
    if not counts:
        raise ValueError("no prompts")
    return fsum(pass_at_k_per_prompt(counts, k)) / len(counts)


def bootstrap_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean: prompts resampled with replacement, `resamples` times.

    The same values, in the same order, and the same seed give the same interval. It speaks of which prompts happened
    to be in the benchmark, given the samples of each. ValueError without values or for a confidence outside (0, 1).
    """
    if not values:
        raise ValueError("no values to resample")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    generator = torch.Generator().manual_seed(seed)
    given = torch.tensor(values, dtype=torch.float64)
    at_once = max(1, _RESAMPLES_AT_ONCE_ELEMENTS // len(given))
    means = [
        given[torch.randint(len(given), (min(at_once, resamples - done), len(given)), generator=generator)].mean(1)
        for done in range(0, resamples, at_once)
    ]
    tail = (1 - confidence) / 2
    low, high = torch.quantile(torch.cat(means), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def coverage_metrics(prefix: str, counts: Sequence[tuple[int, int]], ks: Sequence[int], seed: int = 0) -> Metrics:
    """`{prefix}/pass_at_k/{k}` with its 95 % interval as `.../low` and `.../high`, for each k.

    counts: (n samples, c correct) of each prompt. ValueError when a k is over some prompt's n, and without prompts.
    """
    metrics: Metrics = {}
    for k in ks:
        low, high = bootstrap_interval(pass_at_k_per_prompt(counts, k), seed=seed)
        key = f"{prefix}/pass_at_k/{k}"
        metrics |= {key: mean_pass_at_k(counts, k), f"{key}/low": low, f"{key}/high": high}
    return metrics
