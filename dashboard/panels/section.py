"""What a section of the run page is, and what its charts are drawn of beside the metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.chart import Chart, Line
from dashboard.colors import Color
from dashboard.curves import Columns, line, present
from dashboard.timeline import Period

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """The run that is drawn."""

    spec: Spec
    steps: Sequence[int] = ()
    """The evaluated steps that were chosen; none: the first and the newest."""
    periods: Sequence[Period] = ()
    """What it did when it did not train."""


@dataclass(frozen=True)
class Section:
    """A page's worth of charts. `keys`: what to ask the API for; `charts`: what to draw of the answer."""

    keys: Callable[[Spec], list[str]]
    charts: Callable[[Columns, Subject], dict[str, Chart]]
    """Chart name (stable: it is the chart's key on the page) -> chart, in reading order."""


def benchmarks(spec: Spec) -> list[tuple[str, list[int]]]:
    """(name, its k's in rising order) of each benchmark of the run."""
    return [(part["name"], sorted(part["k"])) for part in spec.get("eval") or []]


def train_ks(spec: Spec) -> list[int]:
    """The k's of pass@k over a step's own groups: powers of two up to the group size, and the group size."""
    group_size = int(spec.get("rollout", {}).get("group_size", 1))
    powers = [2**power for power in range(group_size.bit_length()) if 2**power <= group_size]
    return sorted({*powers, group_size})


def lines(columns: Columns, *parts: tuple[str, str, Color], points: bool = False) -> list[Line]:
    """(key, label, colour) of each, those that the run has."""
    return present([line(columns, key, label, color, points=points) for key, label, color in parts])
