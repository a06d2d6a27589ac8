"""Thinning a curve keeps what a reader looks for, and thinning in parts is thinning the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.metrics.curve import Curve, aligned, fit, level_shown, shown, thin
from store.metrics.levels import LEVELS, SPAN, Piece, cover, stored, width

NUMBERS = st.integers(-5, 5) | st.floats(-1e9, 1e9, allow_nan=False)
VALUES = st.lists(st.none() | NUMBERS, max_size=200)
CURVES = st.dictionaries(
    st.integers(0, 3000), st.none() | NUMBERS | st.lists(st.integers(0, 9), max_size=2), max_size=200
)


def curve_of(values, first=0):
    return Curve(list(range(first, first + len(values))), list(values))


def curves(points):
    return Curve(sorted(points), [points[step] for step in sorted(points)])


def by_hand(curve, level):
    """The points that the pyramid promises to keep of each bucket, found the slow way: (step, value)s."""
    buckets = {}
    for step, value in zip(curve.step, curve.value, strict=True):
        buckets.setdefault(step >> level, []).append((step, value))
    kept = set()
    for bucket in buckets.values():
        numbers = [point for point in bucket if isinstance(point[1], int | float)]
        nulls = [step for step, value in bucket if value is None]
        lists = [step for step, value in bucket if isinstance(value, list)]
        kept |= {bucket[0][0], bucket[-1][0], *nulls[:1], *lists[-1:]}
        if numbers:
            kept |= {min(numbers, key=lambda p: p[1])[0], max(numbers, key=lambda p: p[1])[0]}
        if len(bucket) <= 2:
            kept |= {step for step, _ in bucket}
    return curve.at(index for index, step in enumerate(curve.step) if step in kept)


@given(CURVES, st.integers(1, 12))
def test_of_each_bucket_the_first_the_last_the_extremes_and_the_first_null_stay(points, level):
    curve = curves(points)
    assert thin(curve, level) == by_hand(curve, level)


@given(CURVES, CURVES, st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_thinning_in_parts_is_thinning_the_whole(early, late, first, second, more):
    """The law on which the pyramid rests: any part may have been thinned before, at any level that is not coarser."""
    early, late = curves(early), curves({step + 3001: value for step, value in late.items()})
    level = max(first, second) + more
    joined, parts = Curve(), Curve()
    for whole, part in ((early, thin(early, first)), (late, thin(late, second))):
        joined.extend(Curve(list(whole.step), list(whole.value)))
        parts.extend(Curve(list(part.step), list(part.value)))
    assert thin(parts, level) == thin(joined, level)


@given(CURVES, st.integers(2, 60), st.integers(0, 12))
def test_what_is_shown_does_not_depend_on_what_was_read(points, max_points, level):
    curve = curves(points)
    if len(curve) > max_points and level_shown(curve, max_points) >= level:
        assert shown(thin(curve, level), max_points, len(curve)) == shown(curve, max_points)


@given(VALUES, st.integers(2, 50))
def test_what_is_shown(values, max_points):
    curve = curve_of(values)
    found = shown(curve, max_points)
    assert len(found) <= max_points
    assert found.step == sorted(set(found.step))
    assert all(curve.value[step] == value for step, value in zip(found.step, found.value, strict=True))
    numbers = [value for value in values if value is not None]
    if numbers:
        assert min(numbers) in found.value
        assert max(numbers) in found.value
    if None in values and max_points >= 3:
        assert None in found.value
    if values and max_points >= 5:
        assert (found.step[0], found.step[-1]) == (0, len(values) - 1)


@given(st.lists(NUMBERS, min_size=1, max_size=300), st.lists(NUMBERS, max_size=100), st.integers(1, 8))
def test_appended_points_leave_earlier_buckets_as_they_are(values, more, level):
    border = len(values) >> level << level
    before, after = thin(curve_of(values), level), thin(curve_of(values + more), level)
    assert before.between(0, border) == after.between(0, border)


def test_a_short_curve_is_shown_whole():
    assert shown(curve_of([3.0, None, 1.0]), 3) == curve_of([3.0, None, 1.0])
    assert shown(Curve(), 2) == Curve()


def test_one_worked_by_hand():
    # 12 points to 6: two buckets, of 8 steps, and of each the lowest and the highest; besides these the ends.
    values = [0, 5, 1, 2, 9, 3, 4, 4, -7, 8, 4, 0]
    assert shown(curve_of(values), 6).step == [0, 4, 8, 9, 11]


def test_a_null_among_numbers_is_shown_beside_the_extremes():
    values = [1.0] * 100
    values[40], values[41], values[42] = 9.0, None, -9.0
    assert {40, 41, 42} <= set(shown(curve_of(values), 8).step)


@given(st.integers(1, 300), st.integers(2, 50))
def test_of_histograms_the_last_of_each_bucket_is_shown(count, max_points):
    found = shown(curve_of([[n] for n in range(count)]), max_points)
    assert len(found) <= max_points
    assert (found.step[0], found.step[-1]) == (0, count - 1)


def test_fewer_than_two_points_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        shown(curve_of([1.0]), 1)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 500))
def test_the_level_that_fits_is_the_lowest(first, more, buckets):
    last = first + more
    level = fit(first, last, buckets)
    assert (last >> level) - (first >> level) < buckets
    assert level == 0 or (last >> level - 1) - (first >> level - 1) >= buckets


@given(st.integers(0, 50_000), st.integers(0, 50_000), st.integers(0, 400), st.sampled_from(LEVELS))
def test_pieces_cover_each_step_once_with_few_whole_complete_chunks(begin, more, chunks, level):
    end, sealed = begin + more, chunks * SPAN
    pieces = cover(begin, end, sealed, level)
    covered = [step for piece in pieces for step in range(piece.begin, piece.end)]
    assert covered == list(range(begin, min(end, sealed)))
    for piece in pieces:
        assert piece.level <= level
        assert piece.begin % (1 << piece.level) == piece.end % (1 << piece.level) == 0 or piece.level == 0
        assert (piece.chunks[1] + 1) * width(piece.level) <= sealed
    assert len(pieces) <= 2 * len(LEVELS)


def test_a_long_run_is_read_from_few_chunks():
    def count(steps):
        level = stored(fit(0, steps - 1, 499))
        pieces = cover(0, steps, steps // SPAN * SPAN, level)
        return sum(piece.chunks[1] - piece.chunks[0] + 1 for piece in pieces)

    assert cover(0, 100_000, 99_968, 8) == [Piece(8, 0, 98_304), Piece(0, 98_304, 99_968)]
    assert max(count(steps) for steps in range(100_000, 10_000_000, 99_991)) <= 64


@given(CURVES, st.integers(2, 60), st.integers(0, 6))
def test_aligned_curves_keep_the_same_steps_whatever_was_thinned_before(points, most, before):
    curve = curves(points)
    found = aligned(curve, most)
    assert len(found) <= most
    if len(curve) <= most:
        assert found == curve
        return
    level = fit(curve.step[0], curve.step[-1], most - 1)
    firsts = {step >> level: step for step in reversed(curve.step)}
    assert found.step == sorted({*firsts.values(), curve.step[-1]})
    assert found.value == [points[step] for step in found.step]
    if before <= level:
        assert aligned(thin(curve, before), most, len(curve)) == found
