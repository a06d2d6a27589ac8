"""Times of one thing done many times, and how they are shown."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Times:
    """In seconds, one of each time it was done."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[math.ceil(0.99 * (len(self.seconds) - 1))]

    @property
    def rate(self) -> float:
        """How often a second, one after the other."""
        return len(self.seconds) / sum(self.seconds)


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    name: str
    times: Times
    aim: float | None = None
    """Seconds that the median is to stay below."""

    def __str__(self) -> str:
        aim = "" if self.aim is None else f"{1e3 * self.aim:8.0f}  {'yes' if self.times.median < self.aim else 'NO'}"
        times = self.times
        return f"{self.name:52}{1e3 * times.median:10.2f}{1e3 * times.p99:10.2f}{times.rate:10.0f}  {aim}"


HEADING = f"{'milliseconds':52}{'median':>10}{'p99':>10}{'a second':>10}  {'aim':>8}  reached"


def times_of(work: Callable[[int], object], count: int) -> Times:
    """`work(0)` ... `work(count - 1)`, one after the other."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - began)
    return Times(taken)
