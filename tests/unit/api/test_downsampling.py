"""Thinning a curve keeps what a reader looks for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.metrics.downsampling import keep

VALUES = st.lists(st.none() | st.integers(-5, 5) | st.floats(-1e9, 1e9, allow_nan=False), max_size=200)


def test_a_short_curve_is_kept_whole():
    assert keep([3.0, None, 1.0], 3) == [0, 1, 2]
    assert keep([], 2) == []


def test_one_worked_by_hand():
    # 12 points to 6: the first, the last, and the lowest and highest of each half of the ten between.
    values = [0, 5, 1, 2, 9, 3, 4, 4, -7, 8, 4, 0]
    assert keep(values, 6) == [0, 2, 4, 8, 9, 11]


def test_a_null_among_numbers_is_kept_beside_the_extremes():
    values = [1.0] * 100
    values[40], values[41], values[42] = 9.0, None, -9.0
    assert {40, 41, 42} <= set(keep(values, 8))


@settings(deadline=None)
@given(VALUES, st.integers(2, 50))
def test_what_is_kept(values, max_points):
    kept = keep(values, max_points)
    assert kept == sorted(set(kept))
    assert len(kept) <= max_points
    assert all(0 <= index < len(values) for index in kept)
    shown = [values[index] for index in kept]
    numbers = [value for value in values if value is not None]
    if numbers:
        assert min(numbers) in shown
        assert max(numbers) in shown
    if None in values and max_points >= 3:
        assert None in shown
    if values and max_points >= 5:
        assert (kept[0], kept[-1]) == (0, len(values) - 1)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 50))
def test_histograms_are_thinned_evenly(count, max_points):
    kept = keep([[n] for n in range(count)], max_points)
    assert len(kept) == min(count, max_points)
    assert (kept[0], kept[-1]) == (0, count - 1)


def test_fewer_than_two_points_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        keep([1.0], 1)
