"""Which colour stands for what, on light and on dark backgrounds; all from Okabe and Ito's colour-blind-safe set.

A channel, a benchmark or a run has the same colour on every chart of the dashboard.
"""

import zlib
from collections.abc import Iterable

Color = tuple[str, str]
"""On a light background, on a dark one."""

BLUE: Color = ("#0072B2", "#56B4E9")
VERMILION: Color = ("#D55E00", "#FF8A4C")
GREEN: Color = ("#00805C", "#2BC79A")
PINK: Color = ("#B65C8F", "#E29AC4")
ORANGE: Color = ("#C07F00", "#F0B429")
PURPLE: Color = ("#5B4BB7", "#A79CF2")
BROWN: Color = ("#7A5230", "#C99A6B")
YELLOW: Color = ("#A88A00", "#F0E442")
INK: Color = ("#1C2230", "#E6E9EF")
GRAY: Color = ("#6B7280", "#A3A8B4")

INFORMATIVE = BLUE
"""Correct rollouts: the informative channel."""
SPURIOUS = VERMILION
"""Incorrect rollouts: the spurious channel."""
POLICY = GRAY
"""All rollouts together."""

RUNS: tuple[Color, ...] = (BLUE, VERMILION, GREEN, PINK, YELLOW, PURPLE, INK)
DASHES: tuple[list[int] | None, ...] = (None, [8, 4], [2, 3])
"""More runs than colours: the colours come again with another dash."""
BENCHMARKS: tuple[Color, ...] = (GREEN, PINK, ORANGE, PURPLE, BROWN)

SHADES: tuple[Color, ...] = (
    ("#0B3C5D", "#D6ECFA"),
    ("#0072B2", "#9FD3F2"),
    ("#3C96CF", "#56B4E9"),
    ("#79B8E0", "#3288BD"),
    ("#A9D0EA", "#256A94"),
    ("#C9DFEF", "#1C4F6E"),
)
"""For an ordered family such as pass@1, pass@2, pass@4: strongest first."""


def shade(index: int) -> Color:
    return SHADES[min(index, len(SHADES) - 1)]


def benchmark(index: int) -> Color:
    return BENCHMARKS[index % len(BENCHMARKS)]


def of_runs(job_ids: Iterable[str]) -> dict[str, tuple[Color, list[int] | None]]:
    """A (colour, dash) for each run, the same whatever is picked after it, and mostly whatever was picked before it.

    The id decides; a run whose place is taken gets the next free one.
    """
    styles = [(color, dash) for dash in DASHES for color in RUNS]
    taken: dict[int, str] = {}
    given: dict[str, tuple[Color, list[int] | None]] = {}
    for job_id in dict.fromkeys(job_ids):
        wanted = zlib.crc32(job_id.encode()) % len(RUNS)
        free = (place for offset in range(len(styles)) if (place := (wanted + offset) % len(styles)) not in taken)
        place = next(free, wanted)
        taken[place] = job_id
        given[job_id] = styles[place]
    return given
