"""verl's metrics under our keys: one row of `TABLE` each, and only where both mean the same. Those of the groups are
ours (`group_log`).

What verl does not measure is absent, and null where it could not be measured in this step. Not taken over, since they
are something else: actor/pg_clipfrac (both bounds in one, averaged over micro-batches), actor/ppo_kl (k1),
training/rollout_probs_diff_* (probabilities, not their logarithms), response_length/clip_ratio (the share as long as
the longest response of the batch), val-*/best@N (drawn with replacement), actor/perf/max_memory_* (the trainer's
process alone, the engine has its own), perf/throughput (prompt tokens included, per GPU).
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from trainer.spec.events import Metrics
from trainer.spec.job import JobSpec

Theirs = Mapping[str, float | None]
"""One line of verl's file logger."""


def always(_: JobSpec) -> bool:
    return True


def one_update(spec: JobSpec) -> bool:
    """verl averages over the updates of a step; of one that is what it is."""
    return spec.optim.updates_per_step == 1


def token_mean(spec: JobSpec) -> bool:
    """verl aggregates these as it does the loss (agg_loss); a mean over tokens only with this reduction."""
    return spec.algorithm.loss_reduction == "token_mean"


class Row(NamedTuple):
    """`key` is the sum of verl's `names` where `holds`. A name in `optional` counts 0 when verl leaves it out."""

    key: str
    names: tuple[str, ...]
    holds: Callable[[JobSpec], bool] = always
    optional: tuple[str, ...] = ()


TABLE = (
    Row("entropy/policy", ("actor/entropy",), token_mean),
    Row("policy/loss", ("actor/loss",)),
    Row("policy/grad_norm", ("actor/grad_norm",), one_update),
    Row("policy/lr", ("actor/lr",)),
    Row("policy/kl_ref", ("actor/kl_loss",), lambda spec: one_update(spec) and token_mean(spec)),
    Row("rollout/length_mean", ("response_length/mean",)),
    Row("rollout/length_max", ("response_length/max",)),
    Row("perf/step_seconds", ("perf/time_per_step",)),
    # Verification runs beside the sampling, so there is no perf/reward_seconds.
    Row("perf/rollout_seconds", ("timing_s/gen",)),
    Row(
        "perf/update_seconds",
        ("timing_s/old_log_prob", "timing_s/ref", "timing_s/adv", "timing_s/update_actor"),
        optional=("timing_s/ref",),
    ),
)

REWARD = "critic/score/mean"
ABORTED = "response/aborted_ratio"
"""Empty responses, which verl leaves out of the mean reward."""
FAILED_GROUPS = "training/rollout_failure/evicted_samples"
"""Prompts of the step for which verl got no response at all and which it trained without."""


def step_metrics(spec: JobSpec, theirs: Theirs, step: int) -> Metrics:
    """The metrics of a `step` event. theirs: verl's of training step `step`."""
    found: Metrics = {}
    for row in TABLE:
        if row.holds(spec) and any(name in theirs for name in row.names):
            found[row.key] = _sum(theirs, row)
    if REWARD in theirs:
        found["reward/mean"] = _finite(theirs[REWARD]) if theirs.get(ABORTED) == 0 else None
    found["progress/prompts"] = step * spec.optim.prompts_per_step
    return found


def is_step(theirs: Theirs) -> bool:
    """Whether a line is a training step's; verl logs the validation before the first step as a line of its own."""
    return "training/global_step" in theirs


def _sum(theirs: Theirs, row: Row) -> float | None:
    values = [_finite(theirs.get(name)) for name in row.names if name in theirs or name not in row.optional]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
