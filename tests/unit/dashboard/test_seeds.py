"""Means over seeds: which runs belong together, and what the band is."""

import math

import pytest

from dashboard import seeds


def test_runs_belong_together_when_only_name_and_seed_differ():
    specs = {
        "a": {"name": "x", "seed": 0, "optim": {"lr": 1, "b": 2}},
        "b": {"name": "y", "seed": 1, "optim": {"b": 2, "lr": 1}},
        "c": {"name": "x", "seed": 0, "optim": {"lr": 2, "b": 2}},
    }
    assert seeds.grouped(specs) == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["asym-s0", "asym-s1"], "asym"),
        (["asym seed 10", "asym seed 11"], "asym"),
        (["beta0.4-1", "beta0.4-2", "beta0.4-10"], "beta0.4"),
        (["same", "same"], "same"),
        (["a", "b"], "a"),
        (["asym", "asym-2"], "asym"),
    ],
)
def test_a_group_is_called_by_what_its_names_share(names, common):
    assert seeds.common_name(names) == common


def test_bands_are_the_statistics_that_they_are_called():
    values = [1.0, 2.0, 6.0]
    deviation = math.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2)
    assert seeds.spread(values, seeds.SD) == seeds.Spread(3, 3.0, 3 - deviation, 3 + deviation)
    assert seeds.spread(values, seeds.RANGE) == seeds.Spread(3, 3.0, 1.0, 6.0)
    # Student's t for two degrees of freedom: 4.303.
    interval = seeds.spread(values, seeds.CI)
    assert interval.high - interval.mean == pytest.approx(4.303 * deviation / math.sqrt(3))


def test_one_run_has_no_band():
    for band in (seeds.SD, seeds.RANGE, seeds.CI):
        assert seeds.spread([0.5], band) == seeds.Spread(1, 0.5, 0.5, 0.5)


def test_what_is_undefined_counts_for_nothing():
    curves = [([1, 2, 3], [1.0, None, 3.0]), ([1, 2], [3.0, 4.0])]
    assert {step: each.n for step, each in seeds.over_steps(curves, seeds.SD, 1).items()} == {1: 2, 2: 1, 3: 1}
    assert list(seeds.over_steps(curves, seeds.SD, 2)) == [1]
