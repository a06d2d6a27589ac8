"""A metric's curve, and thinning it without losing what a reader looks for.

Buckets are 2^level steps wide and begin at multiples of their width, so points that come later never move the border
of an earlier bucket. Of each, the pyramid keeps the first, the last, the lowest and the highest point (M4: Jugel et
al., VLDB 2014) and the first null, which is data (undefined there, e.g. the entropy of a channel without rollouts).
These survive any further thinning to wider buckets, whatever was thinned before:

    thin(thin(a, l) + thin(b, m), n) == thin(a + b, n)      for l, m <= n
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = float | int | list[int] | None

FEWEST = 2
"""The fewest points one may ask for: the lowest and the highest."""
COARSEST = 31
"""At this level one bucket holds every step there can be."""


@dataclass
class Curve:
    """`value[i]` was measured after step `step[i]`; steps rise. None is measured and undefined."""

    step: list[int] = field(default_factory=list)
    value: list[Value] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.step)

    def at(self, indices: Iterable[int]) -> "Curve":
        chosen = list(indices)
        return Curve([self.step[index] for index in chosen], [self.value[index] for index in chosen])

    def between(self, begin: int, end: int) -> "Curve":
        """The points of the steps begin..end-1."""
        low, high = bisect_left(self.step, begin), bisect_left(self.step, end)
        return self if high - low == len(self) else Curve(self.step[low:high], self.value[low:high])

    def extend(self, later: "Curve") -> None:
        self.step += later.step
        self.value += later.value


def columns(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, Curve]:
    """From (step, values by key), steps rising, to a curve per key."""
    curves: dict[str, Curve] = {}
    for step, values in rows:
        for key, value in values.items():
            curve = curves.get(key)
            if curve is None:
                curve = curves[key] = Curve()
            curve.step.append(step)
            curve.value.append(value)
    return curves


def thin(curve: Curve, level: int) -> Curve:
    """Of each bucket the first, the last, the lowest, the highest point, the first null; of equals, the earlier."""
    if level == 0:
        return curve
    plain, kept = _only_numbers(curve.value), list[int]()
    for start, end in _buckets(curve.step, level):
        if end - start <= 2:
            kept += range(start, end)
        else:
            kept += sorted({start, end - 1, *_notable(curve.value, start, end, plain)})
    return curve.at(kept)


def fit(first: int, last: int, buckets: int) -> int:
    """The lowest level at which the steps first..last lie in at most so many buckets (at least one)."""
    level = 0
    while (last >> level) - (first >> level) >= buckets:
        level += 1
    return level


def level_shown(curve: Curve, max_points: int) -> int:
    """At which level `shown` thins a curve of more than `max_points` points. Thinned below it, it shows the same."""
    buckets = (max_points - 2) // _per_bucket(curve.value)
    return COARSEST if buckets < 1 else fit(curve.step[0], curve.step[-1], buckets)


def shown(curve: Curve, max_points: int, measured: int | None = None) -> Curve:
    """At most `max_points` of its points: all, or those that stand out in each bucket of the fitting level.

    That is the lowest, the highest and the first null, and of lists (histograms), which have no extremes, the last;
    besides these the curve's first and last point, when there is room. ValueError when `max_points` is below 2.

    measured: how many points it had before it was thinned (or fewer, as long as that is more than `max_points`).
    """
    if max_points < FEWEST:
        raise ValueError(f"max_points must be at least {FEWEST}, got {max_points}")
    count = len(curve)
    if (measured or count) <= max_points:
        return curve
    plain = _only_numbers(curve.value)
    level = level_shown(curve, max_points)
    notable = [_notable(curve.value, start, end, plain) for start, end in _buckets(curve.step, level)]
    if level == COARSEST:
        return curve.at(sorted(list(dict.fromkeys([*notable[0], 0, count - 1]))[:max_points]))
    return curve.at(sorted({0, count - 1}.union(*notable)))


def aligned(curve: Curve, max_points: int, measured: int | None = None) -> Curve:
    """At most `max_points` of its points: all, or the first of each bucket of the fitting level, and the last of all.

    Curves that were measured at every step keep the same steps, whatever their values: what a mean over runs needs.
    ValueError when `max_points` is below 2. measured: as for `shown`.
    """
    if max_points < FEWEST:
        raise ValueError(f"max_points must be at least {FEWEST}, got {max_points}")
    count = len(curve)
    if (measured or count) <= max_points:
        return curve
    level = fit(curve.step[0], curve.step[-1], max_points - 1)
    return curve.at(sorted({count - 1}.union(start for start, _ in _buckets(curve.step, level))))


def _buckets(steps: Sequence[int], level: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each bucket that has points, as indices."""
    start, count = 0, len(steps)
    while start < count:
        border = ((steps[start] >> level) + 1) << level
        end = bisect_left(steps, border, start + 1, min(count, start + border - steps[start]))
        yield start, end
        start = end


def _only_numbers(values: Sequence[Value]) -> bool:
    return set(map(type, values)) <= {int, float}


def _per_bucket(values: Sequence[Value]) -> int:
    """How many points of one bucket stand out at most."""
    kinds = set(map(type, values))
    return 2 * bool(kinds & {int, float}) + (list in kinds) + (type(None) in kinds)


def _notable(values: Sequence[Value], start: int, end: int, plain: bool) -> list[int]:
    """Indices of a stretch's lowest and highest number, its first null and its last list, as far as there are any."""
    stretch = values[start:end]
    if plain:
        return [start + stretch.index(min(stretch)), start + stretch.index(max(stretch))]  # type: ignore[type-var]
    numbers = [value for value in stretch if isinstance(value, int | float)]
    found = [stretch.index(min(numbers)), stretch.index(max(numbers))] if numbers else []
    found += [index for index, value in enumerate(stretch) if value is None][:1]
    found += [index for index, value in enumerate(stretch) if isinstance(value, list)][-1:]
    return [start + index for index in found]
