"""verl's validation samples as our evaluation metrics.

verl's own best@N is drawn with replacement and no pass@k. Its sample file of a step (`trainer.validation_data_dir`)
holds every sample with what `reward.compute_score` said of it, so pass@k and its intervals are computed from those as
for any other run (`trainer.coverage`).
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from trainer.coverage import coverage_metrics
from trainer.spec.events import Metrics
from trainer.spec.job import EvalSpec, JobSpec

Samples = Mapping[str, Mapping[int, list[bool]]]
"""Benchmark -> row -> whether each of its samples is correct."""


def read_samples(file: Path) -> Samples:
    """The whole lines of a sample file; the last one may still be on its way. Empty when the file is not there."""
    found: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    for line in text[: text.rfind("\n") + 1].splitlines():
        sample = json.loads(line)
        found[sample["benchmark"]][int(sample["row"])].append(sample["acc"] == 1)
    return found


def is_complete(samples: Samples, spec: JobSpec, problems: Mapping[str, int]) -> bool:
    """Whether every problem has all its samples. problems: benchmark -> how many verl was given."""
    return all(_counts(samples, benchmark, problems[benchmark.name]) is not None for benchmark in spec.eval)


def eval_metrics(samples: Samples, spec: JobSpec, benchmark: EvalSpec, problems: int) -> Metrics | None:
    """`eval/{name}/...` as far as verl's samples tell (not their lengths); None when a sample is missing."""
    counts = _counts(samples, benchmark, problems)
    if counts is None:
        return None
    prefix = f"eval/{benchmark.name}"
    return {
        **coverage_metrics(prefix, counts, benchmark.k, seed=spec.seed),
        f"{prefix}/accuracy": sum(correct for _, correct in counts) / sum(n for n, _ in counts),
        f"{prefix}/problems": len(counts),
    }


def _counts(samples: Samples, benchmark: EvalSpec, problems: int) -> list[tuple[int, int]] | None:
    rows = samples.get(benchmark.name, {})
    counts = [(len(correct), sum(correct)) for _, correct in sorted(rows.items())]
    whole = len(counts) == problems and all(n == benchmark.samples for n, _ in counts)
    return counts if whole else None
