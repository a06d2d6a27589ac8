"""AsymGRPO (arXiv 2604.04894), step by step. Read it as the paper: sample groups, verify, advantages, update.

The loop is blind to the algorithm: `trainer.advantages` and `trainer.losses` read the spec's `algorithm` section.
It owns the order of things within a step and what is carried from one to the next; it knows no process, no signal and
no file but the run's own folder (`trainer.run` makes all that).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trainer import checkpoint
from trainer.advantages import NotBinaryError, correct_rollouts
from trainer.advantages import advantages as estimate_advantages
from trainer.bonus import shifted, total_bonus
from trainer.engines import Engine
from trainer.entropy_channels import StepTokens, change_metrics, channel_metrics, rollout_entropies
from trainer.errors import RunError
from trainer.evaluation import Benchmark, evaluate
from trainer.event_stream import EventStream, checked
from trainer.forward import score
from trainer.group_metrics import group_metrics
from trainer.judging import Verifier
from trainer.losses import LossStats
from trainer.memory import peak_memory_bytes
from trainer.models import Policy
from trainer.preflight import look_ahead
from trainer.ranks import ALONE, World
from trainer.response_text import Decoder
from trainer.rollouts import Collected, Sampler
from trainer.run_warnings import WarningState, observe
from trainer.sampling_order import SamplingOrder
from trainer.sequences import Sequences
from trainer.sharding import trained_state
from trainer.spec import failpoints
from trainer.spec.events import Checkpoint, Eval, Metrics, Rollouts, Step
from trainer.spec.job import JobSpec
from trainer.token_budget import TokenBudget
from trainer.update import (
    Batch,
    learning_rate,
    needs_statistics_first,
    optimizer_tensors,
    update,
    with_gradient,
)

logger = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything a run is made of. What changes from step to step is the policy's weights, the optimizer's state,
    the order's cursor, the token budget, the warnings' memory and the three counters; a checkpoint holds exactly
    these."""

    spec: JobSpec
    run_dir: Path
    policy: Policy
    reference: Policy | None
    """The frozen policy of the KL term; None without one."""
    optimizer: torch.optim.Optimizer
    compute_dtype: torch.dtype
    budget: TokenBudget
    order: SamplingOrder
    sampler: Sampler
    engine: Engine
    verifier: Verifier
    decode: Decoder
    benchmarks: list[Benchmark]
    events: EventStream
    prune_checkpoints: bool
    world: World = ALONE
    """Every rank goes through the same steps with the same numbers; what each of them does alone is its share of the
    sampling (`engine`), the verifying (`verifier`) and the passes (`update`, `score`)."""
    step: int = 0
    tokens: int = 0
    warnings: WarningState = field(default_factory=WarningState)
    complained_of: set[str] = field(default_factory=set)
    """Verifier errors that the log has been told of."""
    scores: dict[int, float | None] = field(default_factory=dict)
    """Checkpoints on disk: step -> value of `checkpoint.keep_best` there."""


def train(run: Training, should_stop: Callable[[], bool]) -> bool:
    """Train from `run.step` to the last step. Returns False when `should_stop` ended it early, after a checkpoint.

    RunError when the run's own numbers make going on senseless; the last checkpoint stays.
    """
    steps = run.spec.train.steps
    try:
        if run.step == 0:
            if run.spec.preflight is not None:
                look_ahead(run.spec, run.sampler.prompts, run.engine, run.verifier, run.decode, run.events)
            run_benchmarks(run)
        while run.step < steps:
            step_metrics = train_step(run, run.step + 1)
            eval_metrics = run_benchmarks(run)
            stopping = run.world.any(should_stop())
            if stopping or run.step == steps or run.step % run.spec.checkpoint.every == 0:
                write_checkpoint(run, {**step_metrics, **eval_metrics})
            if stopping and run.step < steps:
                return False
    except FloatingPointError as error:  # the engine met logits that are NaN or infinite
        step = run.step + 1
        raise RunError("policy_not_finite", f"the policy broke before step {step}: {error}", step=step) from error
    return True


def train_step(run: Training, step: int) -> Metrics:
    """One step: groups of rollouts, their advantages, one or more updates, and what there is to know about them."""
    spec, started = run.spec, time.perf_counter()

    # Groups of G rollouts per prompt, each with a verified reward (section 2).
    failpoints.hit("trainer.rollout")
    rollouts = run.sampler.collect(step)
    correct = correct_rollouts(rollouts.rewards, spec.algorithm.success_threshold)
    try:
        advantages = estimate_advantages(spec.algorithm, rollouts.rewards, rollouts.group_ids, step)
    except NotBinaryError as error:
        raise RunError("reward_not_binary", f"step {step}: {error}", step=step) from error

    # A bonus shifts the advantage alone: what is correct, and every metric of the groups, is the reward's.
    bonus = total_bonus(spec.reward.bonus, rollouts.texts, rollouts.lengths, spec.rollout.max_new_tokens)
    reward_advantages, advantages = advantages, shifted(advantages, bonus, rollouts.group_ids)

    # One or more updates (section 2), which also give the log-prob and entropy of every response token under the policy
    # that the step began with (section 3).
    update_started = time.perf_counter()
    loss, gradient_norm, logp, entropy = make_updates(run, step, rollouts, advantages)
    run.engine.weights_changed()
    update_seconds = time.perf_counter() - update_started
    tokens = StepTokens(
        rollout=torch.repeat_interleave(torch.arange(len(rollouts.lengths)), rollouts.lengths),
        correct=correct,
        advantage=advantages,
        group_ids=rollouts.group_ids,
    )

    # The same tokens under the new weights: what the step really did to each channel.
    changes: Metrics = {}
    if spec.diagnostics.every and step % spec.diagnostics.every == 0:
        logp_after, entropy_after = statistics(run, run.policy, rollouts.sequences)
        changes = change_metrics(tokens, logp, logp_after, entropy, entropy_after)

    run.step = step
    run.tokens += int(rollouts.lengths.sum())
    seconds = time.perf_counter() - started
    mismatch = (logp - rollouts.logp_engine).abs()
    metrics = checked(
        {
            **group_metrics(rollouts.rewards, correct, rollouts.group_ids, reward_advantages),
            "reward/bonus_mean": None if bonus is None else bonus.mean().item(),
            **channel_metrics(tokens, logp, entropy),
            **changes,
            **rollouts.metrics(),
            **loss.metrics(),
            "policy/grad_norm": gradient_norm,
            "policy/lr": learning_rate(spec.optim, step),
            "rollout/logprob_diff_mean": mismatch.double().mean().item() if len(mismatch) else None,
            "rollout/logprob_diff_max": mismatch.max().item() if len(mismatch) else None,
            "perf/update_seconds": update_seconds,
            "perf/step_seconds": seconds,
            "perf/finished_at": time.time(),
            "perf/tokens_per_second": int(rollouts.lengths.sum()) / seconds,
            "perf/peak_memory_bytes": run.world.max(peak_memory_bytes(run.policy.device)),
            "perf/engine_memory_bytes": run.world.max(run.engine.counters.memory_bytes or 0) or None,
            "progress/prompts": run.order.prompts_drawn,
            "progress/tokens": run.tokens,
            "progress/epoch": run.order.epoch,
        }
    )
    run.events.emit(Step, step=step, metrics=metrics)
    failpoints.hit("trainer.step")
    if spec.diagnostics.rollout_groups:
        of_tokens = rollouts.token_entropies(entropy, run.decode) if spec.diagnostics.token_entropies else None
        entropies = rollout_entropies(tokens, entropy)
        shown = rollouts.events(correct, advantages, bonus, entropies, spec.diagnostics.rollout_groups, of_tokens)
        run.events.emit(Rollouts, step=step, rollouts=shown)
    for cause, complaint in rollouts.complaints().items():
        if cause not in run.complained_of:
            run.complained_of.add(cause)
            run.events.log("warning", "verifier_failed", complaint, step=step)
    run.warnings, raised = observe(run.warnings, metrics)
    for warning in raised:
        run.events.log("warning", warning.code, warning.message, step=step)
    return metrics


def make_updates(
    run: Training, step: int, rollouts: Collected, advantages: Tensor
) -> tuple[LossStats, float, Tensor, Tensor]:
    """One update per `prompts_per_update` groups, in sampling order; all but the first are off-policy.

    Returns the statistics over all updates, the largest gradient norm, and log-prob and entropy of every response token
    under the weights that the step began with. The first update's own forward pass is under these weights, so only what
    it does not compute needs a pass of its own.
    """
    spec = run.spec
    of_update = rollouts.group_ids // (spec.optim.prompts_per_update or spec.optim.prompts_per_step)
    statistics_first = needs_statistics_first(spec)
    unscored = (of_update == 0) & with_gradient(spec.algorithm, advantages) & (not statistics_first)
    unscored_tokens = torch.repeat_interleave(unscored, rollouts.lengths)
    logp, entropy = torch.zeros(len(unscored_tokens)), torch.zeros(len(unscored_tokens))
    scored = rollouts.sequences.select(indices(~unscored))
    logp[~unscored_tokens], entropy[~unscored_tokens] = statistics(run, run.policy, scored)
    if not (logp.isfinite().all() and entropy.isfinite().all()):
        raise RunError("policy_not_finite", f"the policy gives log-probs that are not finite in step {step}", step=step)
    logp_reference = None if run.reference is None else statistics(run, run.reference, rollouts.sequences)[0]

    parts: list[LossStats] = []
    norms: list[float] = []
    for number in range(spec.optim.updates_per_step):
        chosen = of_update == number
        chosen_tokens = torch.repeat_interleave(chosen, rollouts.lengths)
        known = number > 0 or statistics_first
        batch = Batch(
            sequences=rollouts.sequences.select(indices(chosen)),
            advantages=advantages[chosen],
            truncated=rollouts.truncated[chosen],
            logp_old=logp[chosen_tokens] if known else None,
            entropy_old=entropy[chosen_tokens] if known else None,
            logp_engine=rollouts.logp_engine[chosen_tokens],
            logp_reference=None if logp_reference is None else logp_reference[chosen_tokens],
        )
        failpoints.hit("trainer.update")
        # Each rank's masks are its own.
        with run.policy.dropout(spec.seed, step, number, *([run.world.rank] if run.world.rank else [])):
            updated = update(
                run.policy,
                run.optimizer,
                spec,
                batch,
                step=step,
                compute_dtype=run.compute_dtype,
                budget=run.budget,
                world=run.world,
            )
        if not known:
            computed = unscored_tokens[chosen_tokens]
            logp[unscored_tokens], entropy[unscored_tokens] = updated.logp[computed], updated.entropy[computed]
        parts.append(updated.stats)
        norms.append(updated.gradient_norm)
    return LossStats.total(parts), max(norms), logp, entropy


def indices(mask: Tensor) -> list[int]:
    found: list[int] = mask.nonzero().flatten().tolist()
    return found


def statistics(run: Training, policy: Policy, sequences: Sequences) -> tuple[Tensor, Tensor]:
    """(log-prob, entropy) of every response token at the sampling temperature, packed float32 on the CPU."""
    temperature = run.spec.rollout.temperature
    return run.budget.run(lambda tokens: score(policy, sequences, temperature, run.compute_dtype, tokens, run.world))


def run_benchmarks(run: Training) -> Metrics:
    """Evaluate the benchmarks that are due after `run.step`."""
    metrics: Metrics = {}
    for benchmark in run.benchmarks:
        if not benchmark.is_due(run.step, run.spec.train.steps):
            continue
        name = benchmark.spec.name
        results = run.run_dir / "evals" / name / f"{run.step}.jsonl" if run.world.leads else None
        values = checked(evaluate(benchmark, run.spec, run.engine, run.verifier, run.decode, results))
        run.events.emit(Eval, step=run.step, name=name, metrics=values)
        metrics.update(values)
    return metrics


def write_checkpoint(run: Training, metrics: Metrics) -> None:
    """Write the state after `run.step`, say so, and (unsupervised) delete what the spec does not keep."""
    best = run.spec.checkpoint.keep_best
    value = metrics.get(best) if best is not None else None
    score_here = float(value) if isinstance(value, int | float) else None
    folder = run.run_dir / "checkpoints"
    scores = {**run.scores, run.step: score_here}
    optimizer, weights = optimizer_tensors(run.policy, run.optimizer, run.world), trained_state(run.policy, run.world)
    if not run.world.leads:
        return
    written = checkpoint.write(
        folder,
        run.step,
        save_model=lambda folder: run.policy.save_pretrained(folder, weights),
        optimizer=optimizer,
        state={
            "spec": run.spec.model_dump(mode="json"),
            "tokens": run.tokens,
            "order": run.order.state_dict(),
            "token_budget": run.budget.tokens,
            "warnings": run.warnings.to_dict(),
            "scores": [[step, score] for step, score in scores.items()],
        },
    )
    run.scores = scores
    logger.info("checkpoint of step %d written, %d bytes", run.step, written.bytes)
    run.events.emit(
        Checkpoint,
        step=run.step,
        path=str(written.path.relative_to(run.run_dir)),
        manifest_sha256=written.manifest_sha256,
        bytes=written.bytes,
        score=score_here,
    )
    prune(run)


def prune(run: Training) -> None:
    """Unsupervised: delete the checkpoints that the spec does not keep and what a killed attempt left half done."""
    if not run.prune_checkpoints:
        return
    folder = run.run_dir / "checkpoints"
    checkpoint.clear_interrupted(folder)
    retained = run.spec.checkpoint.retained(run.scores)
    for step in set(run.scores) - retained:
        checkpoint.delete(folder, step)
    run.scores = {step: score for step, score in run.scores.items() if step in retained}
