"""Which colour stands for what, on light and on dark backgrounds; all from Okabe and Ito's colour-blind-safe set.

A channel, a benchmark or a run has the same colour on every chart of the dashboard.
"""

import zlib
from collections.abc import Iterable, Mapping

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
DASHES: tuple[list[int] | None, ...] = (None, [8, 4], [2, 3], [12, 3, 2, 3])
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


Style = tuple[Color, list[int] | None]
"""A colour and a canvas dash pattern (None: a full line)."""

_STYLES: tuple[Style, ...] = tuple((color, dash) for dash in DASHES for color in RUNS)
STYLES = len(_STYLES)


def places(job_ids: Iterable[str], given: Mapping[str, int] | None = None) -> dict[str, int]:
    """Which style each run has: a number below `STYLES`.

    Its id decides. Where that style is taken by a run that was there before it gets the next free one, first of the
    full lines. Who has a style keeps it, whatever is chosen or left out later, since the page's address tells the
    styles that are not the ids' own (`given`). More runs than styles share them.
    """
    found = {job_id: place for job_id, place in (given or {}).items() if 0 <= place < STYLES}
    wanted = list(dict.fromkeys(job_ids))
    taken = {found[job_id] for job_id in wanted if job_id in found}
    for job_id in wanted:
        if job_id not in found:
            own = own_place(job_id)
            around = [(own + offset) % len(RUNS) for offset in range(len(RUNS))]
            free = (row * len(RUNS) + column for row in range(len(DASHES)) for column in around)
            found[job_id] = next((place for place in free if place not in taken), own)
            taken.add(found[job_id])
    return {job_id: found[job_id] for job_id in wanted}


def own_place(job_id: str) -> int:
    """The same in every session: not Python's hash, which differs between processes."""
    return zlib.crc32(job_id.encode()) % len(RUNS)


def of_runs(job_ids: Iterable[str], given: Mapping[str, int] | None = None) -> dict[str, Style]:
    """A (colour, dash) for each run, as `places` has it."""
    return {job_id: _STYLES[place] for job_id, place in places(job_ids, given).items()}
