"""Before the first step: what can be known from some rollouts, before GPU-hours are spent on all the others."""

import hashlib
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.advantages import NotBinaryError, advantages, correct_rollouts
from trainer.bonus import shifted, total_bonus
from trainer.engines import Engine, Generation
from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.groups import Groups
from trainer.judging import Verifier, judge
from trainer.prompts import Prompt, PromptSet
from trainer.rewards import Verdict
from trainer.spec.events import NoGradient, Preflight, PreflightReport, VerifierSeconds
from trainer.spec.job import JobSpec

SHOWN = 3
"""How many rollouts a refusal shows."""
SHOWN_CHARACTERS = 300
MOSTLY = 0.5
_Z = statistics.NormalDist().inv_cdf(0.975)


def look_ahead(
    spec: JobSpec,
    prompts: PromptSet,
    engine: Engine,
    verifier: Verifier,
    decode: Callable[[Sequence[int]], str],
    events: EventStream,
) -> None:
    """Sample and judge as `spec.preflight` says, and report. RunError when no group of them gives a gradient.

    Has its own random numbers and changes nothing of the run: the steps that follow are those of a run without it.
    """
    if spec.preflight is None:
        raise ValueError("the spec asks for no preflight")
    chosen = _drawn(prompts, spec.preflight.prompts, spec.seed)
    samples = spec.preflight.samples or spec.rollout.group_size
    started = time.perf_counter()
    generations = engine.generate(
        [prompt.token_ids for prompt in chosen],
        samples_per_prompt=samples,
        temperature=spec.rollout.temperature,
        max_new_tokens=spec.rollout.max_new_tokens,
        seed=(spec.seed, 0, 0, 0),  # a step's has three numbers, an evaluation's two
    )
    generated = time.perf_counter()
    texts, verdicts = judge(verifier, decode, chosen, generations)
    judged = time.perf_counter()

    rewards = torch.tensor([verdict.reward for verdict in verdicts], dtype=torch.float64)
    correct = correct_rollouts(rewards, spec.algorithm.success_threshold)
    solved = [0] * len(chosen)
    for generation, right in zip(generations, correct.tolist(), strict=True):
        solved[generation.prompt_index] += right
    no_gradient = share_without_gradient(spec, generations, texts, rewards, samples)
    lengths = [len(generation.token_ids) for generation in generations]
    seconds = sorted(verdict.seconds for verdict in verdicts)
    accuracy = sum(solved) / len(generations)
    truncated = sum(generation.truncated for generation in generations) / len(generations)
    failed = sum(verdict.error is not None for verdict in verdicts) / len(verdicts)
    summary = _summary(spec, accuracy, no_gradient, truncated, failed)
    report = PreflightReport(
        summary=summary,
        prompts=len(chosen),
        samples=samples,
        accuracy=accuracy,
        histogram=[solved.count(count) for count in range(samples + 1)],
        no_gradient=no_gradient,
        truncated=truncated,
        length_mean=sum(lengths) / len(lengths),
        length_max=max(lengths),
        verifier_errors=dict(Counter(verdict.error for verdict in verdicts if verdict.error is not None)),
        verifier_seconds=VerifierSeconds(
            median=statistics.median(seconds), p95=seconds[math.ceil(0.95 * len(seconds)) - 1], max=seconds[-1]
        ),
        rollout_seconds=generated - started,
        reward_seconds=judged - generated,
        step_seconds=(judged - started) * spec.optim.prompts_per_step * spec.rollout.group_size / len(generations),
    )
    events.emit(Preflight, report=report)
    if no_gradient.share == 1.0:
        raise _refusal(summary, rewards, failed, truncated, chosen, generations, texts, verdicts)
    if failed:
        events.log("warning", "preflight_verifier_errors", f"{failed:.0%} of the preflight's rollouts {_UNJUDGED}")
    if truncated > MOSTLY:
        events.log("warning", "preflight_truncated", f"{truncated:.0%} of the preflight's rollouts {_CUT}")


_UNJUDGED = "could not be judged, and an answer that is not judged is a wrong one: see verifier_errors"
_CUT = "are cut at rollout.max_new_tokens and so probably wrong: raise it, or take prompts with shorter answers"


def share_without_gradient(
    spec: JobSpec, generations: Sequence[Generation], texts: Sequence[str], rewards: Tensor, samples: int
) -> NoGradient:
    """Over disjoint groups of `rollout.group_size` rollouts of one prompt, each given the advantages (bonus included)
    that step 1 would give it. A prompt's rollouts that fill no group are left out.

    generations, texts: of N rollouts in any order, `samples` of each prompt; rewards: float [N].
    """
    groups_of_prompt = samples // spec.rollout.group_size
    kept, group_ids = [], []
    for i, generation in enumerate(generations):
        group = generation.sample_index // spec.rollout.group_size
        if group < groups_of_prompt:
            kept.append(i)
            group_ids.append(generation.prompt_index * groups_of_prompt + group)
    ids = torch.tensor(group_ids)
    try:
        weights = advantages(spec.algorithm, rewards[kept], ids, step=1)
    except NotBinaryError as error:
        raise RunError("reward_not_binary", f"preflight: {error}") from error
    lengths = torch.tensor([len(generations[i].token_ids) for i in kept])
    bonus = total_bonus(spec.reward.bonus, [texts[i] for i in kept], lengths, spec.rollout.max_new_tokens)
    weights = shifted(weights, bonus, ids)
    weights_of_groups = Groups.of(ids).maximum(weights.abs())
    idle, groups = int((weights_of_groups == 0).sum()), len(weights_of_groups)
    low, high = wilson(idle, groups)
    return NoGradient(share=idle / groups, low=low, high=high, groups=groups)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, no continuity correction), within [0, 1]. ValueError without trials."""
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"{hits} of {trials}")
    share, z2 = hits / trials, _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == trials else middle + half)


def _drawn(prompts: PromptSet, count: int, seed: int) -> list[Prompt]:
    """Different prompts, in the data's order; the seed decides which."""
    digest = hashlib.sha256(f"preflight {seed}".encode()).digest()
    picked = random.Random(digest).sample(range(len(prompts)), min(count, len(prompts)))  # noqa: S311 - no secret
    return [prompts[i] for i in sorted(picked)]


def _summary(spec: JobSpec, accuracy: float, no_gradient: NoGradient, truncated: float, failed: float) -> str:
    parts = [
        f"{accuracy:.1%} of the rollouts are correct",
        f"{no_gradient.share:.0%} of the groups of {spec.rollout.group_size} give no gradient "
        f"(95 % interval {no_gradient.low:.0%} to {no_gradient.high:.0%})",
        f"{truncated:.0%} are truncated",
    ]
    if failed:
        parts.append(f"{failed:.0%} could not be judged")
    return "; ".join(parts)


def _refusal(
    summary: str,
    rewards: Tensor,
    failed: float,
    truncated: float,
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    texts: Sequence[str],
    verdicts: Sequence[Verdict],
) -> RunError:
    if failed == 1.0:
        code, why = "preflight_verifier_fails", "not one rollout could be judged"
    elif not rewards.any():
        code, why = (
            "preflight_none_solved",
            "not one rollout earns a reward: easier prompts or another model might",
        )
    elif bool((rewards == rewards[0]).all()):
        code, why = "preflight_all_solved", "every rollout is right already: harder prompts would teach it something"
    else:
        code, why = "preflight_no_gradient", "each prompt is answered always right or always wrong"
    if truncated > MOSTLY and code == "preflight_none_solved":
        why += f"; {truncated:.0%} {_CUT}"
    evidence = [summary]
    for i in (part * len(generations) // SHOWN for part in range(SHOWN)):
        prompt, verdict = prompts[generations[i].prompt_index], verdicts[i]
        said = texts[i][:SHOWN_CHARACTERS] + ("..." if len(texts[i]) > SHOWN_CHARACTERS else "")
        judged = f"{verdict.error}: {verdict.message}" if verdict.error else f"reward {verdict.reward:g}"
        evidence.append(f"row {prompt.row}, answer {prompt.answer[:SHOWN_CHARACTERS]!r}: {said!r} ({judged})")
    return RunError(
        code, f"preflight: no group gives a gradient, so the job would learn nothing: {why}", evidence=evidence
    )
