"""The pyramid's shape: which levels are stored, which steps a chunk holds, which chunks answer for a range of steps.

A chunk is one row per key: 128 buckets that follow one another, at level 0 the values of 128 steps themselves. It is
written once all of its steps are there, that is, once a later step is. `sealed` is the step up to which (exclusive)
that has been done at level 0, always a whole number of level-0 chunks; what lies behind is read from the rows.
"""

from typing import NamedTuple

SPAN = 128
"""Buckets of a chunk."""
LEVELS: tuple[int, ...] = (0, *range(4, 25, 2))
"""Those stored: a quarter of the points from one to the next. Between 0 and 4 thinning would save next to nothing,
and above 24 a chunk would be wider than all the steps there can be."""


class Piece(NamedTuple):
    """The steps begin..end-1, to be read from one level; whole buckets of it."""

    level: int
    begin: int
    end: int

    @property
    def chunks(self) -> tuple[int, int]:
        """The first and the last chunk that hold them."""
        return self.begin // width(self.level), (self.end - 1) // width(self.level)


def width(level: int) -> int:
    """Steps of a chunk."""
    return SPAN << level


def finer(level: int) -> int:
    """The stored level that this one's chunks are made of. ValueError for level 0."""
    if level == 0:
        raise ValueError("nothing is finer than level 0")
    return LEVELS[LEVELS.index(level) - 1]


def stored(level: int) -> int:
    """The coarsest stored level that is not coarser than this one."""
    return max(each for each in LEVELS if each <= level)


def cover(begin: int, end: int, sealed: int, level: int) -> list[Piece]:
    """Pieces that hold the steps begin..end-1 as far as they are sealed, each step once, in order.

    The middle comes from `level`, the ends, where a bucket lies only in part within the range or its chunk is not
    complete, from finer ones: at most two pieces of each, so the number of chunks does not depend on the range.
    """
    end = min(end, sealed)
    if begin >= end:
        return []
    if level == 0:
        return [Piece(0, begin, end)]
    low = -(-begin >> level) << level
    high = min(end >> level << level, sealed // width(level) * width(level))
    below = finer(level)
    if low >= high:
        return cover(begin, end, sealed, below)
    return [*cover(begin, low, sealed, below), Piece(level, low, high), *cover(high, end, sealed, below)]
