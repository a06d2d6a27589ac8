"""Two runs on the same prompts: what the one makes of each that the other does not, and whether that is chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from client.results import CommonPrompt

RESAMPLES = 4000
METHOD = f"95 % interval: percentile bootstrap over prompts, {RESAMPLES:,} resamples"


@dataclass(frozen=True)
class Pair:
    """One prompt: the share of its stored rollouts that each run got right."""

    row: int
    prompt: str
    first: float
    second: float
    samples: tuple[int, int]

    @property
    def difference(self) -> float:
        """Second less first."""
        return self.second - self.first


@dataclass(frozen=True)
class Difference:
    """The mean over prompts of second less first."""

    prompts: int
    mean: float
    low: float
    high: float
    better: int
    """Prompts that the second run solves more often."""
    worse: int


def paired(prompts: Sequence[CommonPrompt]) -> list[Pair]:
    """Of prompts that two runs were asked for, those that differ most first."""
    pairs = [
        Pair(
            each["row"],
            each["prompt"],
            each["correct"][0] / each["samples"][0],
            each["correct"][1] / each["samples"][1],
            (each["samples"][0], each["samples"][1]),
        )
        for each in prompts
    ]
    return sorted(pairs, key=lambda pair: (-abs(pair.difference), pair.row))


def difference(pairs: Sequence[Pair]) -> Difference:
    """With its bootstrap interval; the same pairs give the same. ValueError without any."""
    if not pairs:
        raise ValueError("no prompt was given to both runs")
    # In an order of their own, so that how a table is sorted has no say in the numbers that are drawn.
    differences = [pair.difference for pair in sorted(pairs, key=lambda pair: pair.row)]
    values, draw = np.array(differences), np.random.default_rng(0)
    means = np.array([values[draw.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)])
    low, high = (float(end) for end in np.quantile(means, (0.025, 0.975)))
    return Difference(len(values), float(values.mean()), low, high, int((values > 0).sum()), int((values < 0).sum()))
