"""From the rounds' reports to medians, ratios and the question whether the two sides did the same work."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.step.protocol import Ready, StepReport


@dataclass(frozen=True)
class SideStep:
    """One step of one side, with what the driver saw from outside."""

    report: StepReport
    cpu_seconds: float
    """That the side's process used for it; on a machine shared with others the fairer time."""
    others_share: float
    """Of the machine's CPU time during the step, what neither side used nor left idle."""


@dataclass(frozen=True)
class Round:
    asym: SideStep
    trl: SideStep


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """ValueError for no values."""
        if not values:
            raise ValueError("no rounds were measured")
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One quantity: of each side the median over the rounds, and asym / trl within each round."""

    name: str
    asym: float
    trl: float
    ratio: Spread


def seconds(step: SideStep) -> float:
    return step.report.seconds


def cpu_seconds(step: SideStep) -> float:
    return step.cpu_seconds


def tokens_per_second(step: SideStep) -> float:
    return step.report.generated_tokens / step.report.seconds


def phase(name: str) -> Callable[[SideStep], float]:
    return lambda step: step.report.phases.get(name, math.nan)


def row(name: str, rounds: Sequence[Round], quantity: Callable[[SideStep], float]) -> Row:
    asym, trl = [quantity(each.asym) for each in rounds], [quantity(each.trl) for each in rounds]
    ratios = [a / b if b else math.nan for a, b in zip(asym, trl, strict=True)]
    return Row(name, median(asym), median(trl), Spread.of(ratios))


def single(name: str, asym: float, trl: float) -> Row:
    """A quantity that is one number for the whole run."""
    ratio = asym / trl
    return Row(name, asym, trl, Spread(ratio, ratio, ratio))


def summary(rounds: Sequence[Round], asym: Ready, trl: Ready) -> list[Row]:
    """The result: times in seconds, memory in bytes. ValueError for no rounds."""
    if not rounds:
        raise ValueError("no rounds were measured")
    peaks = rounds[-1].asym.report.peak_memory_bytes, rounds[-1].trl.report.peak_memory_bytes
    return [
        row("wall seconds", rounds, seconds),
        row("CPU seconds", rounds, cpu_seconds),
        row("tokens per second", rounds, tokens_per_second),
        *(row(f"{name} seconds", rounds, phase(name)) for name in ("rollout", "update")),
        single("peak memory", *peaks),
        single("memory after loading", asym.memory_bytes, trl.memory_bytes),
        single("the steps' own memory", peaks[0] - asym.memory_bytes, peaks[1] - trl.memory_bytes),
    ]


def differences(rounds: Sequence[Round], asym: Ready, trl: Ready, *, warmup: int, same_lengths: bool) -> list[str]:
    """What the two sides did not do alike or did not do at all; empty when the comparison holds."""
    found = []
    if asym.parameters != trl.parameters:
        found.append(f"asym trains {asym.parameters} parameters, trl {trl.parameters}")
    if asym.device.split(":")[0] != trl.device.split(":")[0]:
        found.append(f"asym runs on {asym.device}, trl on {trl.device}")
    for number, each in enumerate(rounds, start=1):
        ours, theirs = each.asym.report, each.trl.report
        if same_lengths and ours.generated_tokens != theirs.generated_tokens:
            found.append(f"round {number}: asym sampled {ours.generated_tokens} tokens, trl {theirs.generated_tokens}")
        if ours.prompt_tokens != theirs.prompt_tokens:
            found.append(f"round {number}: asym had {ours.prompt_tokens} prompt tokens, trl {theirs.prompt_tokens}")
        for name, report in (("asym", ours), ("trl", theirs)):
            if report.updates != warmup + number:
                found.append(f"round {number}: {name} has made {report.updates} updates, not {warmup + number}")
            if not (math.isfinite(report.loss) and math.isfinite(report.grad_norm)):
                found.append(f"round {number}: {name}'s loss or gradient is not finite")
            if not report.weights_changed:
                found.append(f"round {number}: {name}'s weights did not change")
            if report.grad_norm == 0:
                found.append(f"round {number}: {name} had no gradient")
    return found
