"""Thinning a metric's curve to a number of points without losing what a reader looks for.

The highest and the lowest value of every stretch survive, so a spike of one step in ten thousand is still on the chart,
and so does a null (undefined there, e.g. the entropy of a channel without rollouts): it is data, and never becomes 0.
"""

from collections.abc import Sequence

Value = float | int | list[int] | None

FEWEST = 2
"""The fewest points one may ask for: the lowest and the highest."""


def keep(values: Sequence[Value], max_points: int) -> list[int]:
    """Which of `values` (a curve in order of its steps) to show: their indices, rising, at most `max_points`.

    The first and the last point are kept when there is room beside the extremes. Lists (histograms) have no extremes:
    of those, evenly spaced ones are kept. ValueError when `max_points` is below 2.
    """
    if max_points < FEWEST:
        raise ValueError(f"max_points must be at least {FEWEST}, got {max_points}")
    count = len(values)
    if count <= max_points:
        return list(range(count))
    if any(isinstance(value, list) for value in values):
        return sorted({round(index * (count - 1) / (max_points - 1)) for index in range(max_points)})
    per_bucket = 3 if None in values else 2
    buckets = (max_points - 2) // per_bucket
    if buckets < 1:
        return sorted(_notable(values, 0, count)[:max_points])
    kept = {0, count - 1}
    inner = count - 2
    for bucket in range(buckets):
        start = 1 + bucket * inner // buckets
        end = 1 + (bucket + 1) * inner // buckets
        kept.update(_notable(values, start, end))
    return sorted(kept)


def _notable(values: Sequence[Value], start: int, end: int) -> list[int]:
    """Indices of the lowest, the highest and the first null of a stretch, each at most once, in this order."""
    numbers = [(value, index) for index in range(start, end) if isinstance(value := values[index], int | float)]
    found = [min(numbers)[1], max(numbers)[1]] if numbers else []
    found += [index for index in range(start, end) if values[index] is None][:1]
    return list(dict.fromkeys(found))
