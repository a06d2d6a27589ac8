"""Runs that differ in nothing but their seed, as one: the mean of their values at a step, and how far they spread."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

APART, SD, RANGE, CI = "apart", "mean ± s.d.", "mean, min to max", "mean, 95 % CI"
BANDS = (APART, SD, RANGE, CI)
EXPLAINED = {
    SD: "band: one sample standard deviation over seeds",
    RANGE: "band: lowest to highest seed",
    CI: "band: 95 % t interval of the mean over seeds",
}

# Two-sided 95 % quantiles of Student's t, by degrees of freedom; beyond them the normal one is close.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def signature(spec: Mapping[str, Any]) -> str:
    """Equal for specs that differ in their name and seed only."""
    return json.dumps({key: value for key, value in spec.items() if key not in ("name", "seed")}, sort_keys=True)


def grouped(specs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Job ids by equal signature, both in the order in which they come."""
    groups: dict[str, list[str]] = {}
    for job_id, spec in specs.items():
        groups.setdefault(signature(spec), []).append(job_id)
    return list(groups.values())


def common_name(names: Sequence[str]) -> str:
    """What the names of a group begin with, up to the seed: `asym-s0`, `asym-s1` -> `asym`; else the first of them."""
    shared = names[0]
    for name in names[1:]:
        length = next(
            (i for i, (a, b) in enumerate(zip(shared, name, strict=False)) if a != b), min(len(shared), len(name))
        )
        shared = shared[:length]
    if len(set(names)) > 1:
        shared = (
            shared.rstrip("0123456789").rstrip(" -_/.=·").removesuffix("seed").removesuffix("-s").removesuffix("_s")
        )
        shared = shared.rstrip(" -_/.=·")
    return shared or names[0]


@dataclass(frozen=True)
class Spread:
    """Of the values that some runs have at one place."""

    n: int
    mean: float
    low: float
    high: float


def spread(values: Sequence[float], band: str) -> Spread:
    """Of one value all three are that value, since one run tells nothing about others."""
    mean, n = fmean(values), len(values)
    if n == 1:
        return Spread(1, mean, mean, mean)
    if band == RANGE:
        return Spread(n, mean, min(values), max(values))
    deviation = stdev(values)
    if band == CI:
        deviation *= (_T95[n - 2] if n - 2 < len(_T95) else 1.96) / math.sqrt(n)
    return Spread(n, mean, mean - deviation, mean + deviation)


def over_steps(
    curves: Sequence[tuple[Sequence[int], Sequence[float | None]]], band: str, least: int
) -> dict[int, Spread]:
    """By step, the spread over the runs that have a defined value there, where those are at least `least`."""
    found: dict[int, list[float]] = {}
    for steps, values in curves:
        for step, value in zip(steps, values, strict=True):
            if value is not None:
                found.setdefault(step, []).append(value)
    return {step: spread(values, band) for step, values in sorted(found.items()) if len(values) >= least}
