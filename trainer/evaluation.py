"""Evaluation: sample every problem of a benchmark n times, verify, and estimate pass@k without bias."""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.coverage import coverage_metrics
from trainer.engines import Engine
from trainer.judging import Verifier, judge
from trainer.prompts import PromptSet
from trainer.spec.events import Metrics
from trainer.spec.job import EvalSpec, JobSpec


@dataclass(frozen=True)
class Benchmark:
    spec: EvalSpec
    prompts: PromptSet

    def is_due(self, step: int, steps: int) -> bool:
        """Before the first step, every `every` steps and after the last."""
        return step % self.spec.every == 0 or step == steps


def evaluate(
    benchmark: Benchmark,
    job: JobSpec,
    engine: Engine,
    verifier: Verifier,
    decode: Callable[[Sequence[int]], str],
    results: Path | None,
) -> Metrics:
    """Evaluate the present weights; per-problem results go to `results`, if that is given, as JSON lines.

    The seed depends on the job's seed and the benchmark's name only: two evaluations of the same weights give the
    same numbers, and the difference between steps is not blurred by other draws. Correct is a reward of 1, or one at
    the algorithm's `success_threshold` where it has one. Returns `eval/{name}/...`.
    """
    spec = benchmark.spec
    prompts = benchmark.prompts.prompts
    generations = engine.generate(
        [prompt.token_ids for prompt in prompts],
        samples_per_prompt=spec.samples,
        temperature=spec.temperature,
        max_new_tokens=spec.max_new_tokens or job.rollout.max_new_tokens,
        seed=(job.seed, zlib.crc32(spec.name.encode())),
    )
    texts, verdicts = judge(verifier, decode, prompts, generations)
    threshold = job.algorithm.success_threshold
    correct = [verdict.reward >= (1.0 if threshold is None else threshold) for verdict in verdicts]
    counts = [[0, 0] for _ in prompts]
    for generation, is_correct in zip(generations, correct, strict=True):
        counts[generation.prompt_index][0] += 1
        counts[generation.prompt_index][1] += is_correct

    if results is not None:
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("w") as file:
            for generation, text, verdict, is_correct in zip(generations, texts, verdicts, correct, strict=True):
                line = {
                    "row": prompts[generation.prompt_index].row,
                    "sample": generation.sample_index,
                    "completion": text,
                    "reward": verdict.reward,
                    "correct": is_correct,
                    "error": verdict.error,
                    "tokens": len(generation.token_ids),
                    "truncated": generation.truncated,
                }
                file.write(json.dumps(line) + "\n")

    prefix = f"eval/{spec.name}"
    return {
        **coverage_metrics(prefix, [(n, c) for n, c in counts], spec.k, seed=job.seed),
        f"{prefix}/accuracy": sum(correct) / len(correct),
        f"{prefix}/problems": len(prompts),
        f"{prefix}/length_mean": sum(len(generation.token_ids) for generation in generations) / len(generations),
        f"{prefix}/truncated_fraction": sum(generation.truncated for generation in generations) / len(generations),
    }
