"""Two runs on the same prompts."""

import pytest

from dashboard import pairs


def prompt(row, correct, samples=(4, 4)):
    return {"row": row, "prompt": f"p{row}", "samples": list(samples), "correct": list(correct), "reward": [0, 0]}


def test_each_prompt_counts_once_however_often_it_was_sampled():
    found = pairs.paired([prompt(1, (1, 2)), prompt(2, (0, 16), (8, 16)), prompt(3, (4, 4))])
    assert [(pair.row, pair.difference) for pair in found] == [(2, 1.0), (1, 0.25), (3, 0.0)]
    mean = pairs.difference(found)
    assert mean.mean == pytest.approx(1.25 / 3)
    assert (mean.prompts, mean.better, mean.worse) == (3, 2, 0)
    assert 0 <= mean.low < mean.mean < mean.high <= 1


def test_the_interval_is_that_of_the_mean_over_prompts():
    """For many prompts the bootstrap agrees with the normal interval of the mean."""
    found = pairs.paired([prompt(row, (0, row % 5)) for row in range(500)])
    mean = pairs.difference(found)
    # Differences 0, 1/4, ... 1: mean 1/2, deviation sqrt(1/8).
    half = 1.96 * (1 / 8) ** 0.5 / 500**0.5
    assert (mean.mean - mean.low, mean.high - mean.mean) == (pytest.approx(half, rel=0.1), pytest.approx(half, rel=0.1))


def test_the_same_pairs_give_the_same_interval_in_whatever_order():
    found = pairs.paired([prompt(row, (row % 3, row % 4)) for row in range(40)])
    assert pairs.difference(found) == pairs.difference(found[::-1])


def test_no_prompt_is_no_difference():
    with pytest.raises(ValueError, match="no prompt"):
        pairs.difference([])
