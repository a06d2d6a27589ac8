"""The one vocabulary of metrics: every key that trainer, database, API, dashboard and exporters use, and its meaning.

`{name}` in a template is a benchmark's name, `{k}` a number of samples, `{bucket}` one of `DIFFICULTY_BUCKETS`.
To add a metric, add a row here. Imports nothing but the standard library.
"""

import re
from typing import Literal, NamedTuple

DIFFICULTY_BUCKETS = ("0", "0_25", "25_50", "50_75", "75_100", "100")
"""Groups by the share of their rollouts that is correct, in per cent, the upper bound included except 100:
p = 0, (0, 1/4], (1/4, 1/2], (1/2, 3/4], (3/4, 1), p = 1."""

Unit = Literal["nats", "fraction", "count", "tokens", "seconds", "tokens/second", "bytes", "reward", "number"]
Direction = Literal["higher", "lower", "neither"]


class Metric(NamedTuple):
    """What is known of a key: its unit, whether a better run has more or less of it, and one sentence."""

    template: str
    unit: Unit
    better: Direction
    description: str


METRICS: tuple[Metric, ...] = (
    Metric("entropy/policy", "nats", "neither", "Mean entropy of the policy over all response tokens."),
    Metric("entropy/informative", "nats", "neither", "Mean entropy over the tokens of correct rollouts; null: none."),
    Metric("entropy/spurious", "nats", "neither", "Mean entropy over the tokens of incorrect rollouts; null: none."),
    Metric("entropy/informative_tokens", "tokens", "neither", "How many tokens entropy/informative rests on."),
    Metric("entropy/spurious_tokens", "tokens", "neither", "How many tokens entropy/spurious rests on."),
    Metric("entropy/drive_informative", "nats", "neither", "First-order pull of correct rollouts on the entropy."),
    Metric("entropy/drive_spurious", "nats", "neither", "First-order pull of incorrect rollouts on the entropy."),
    Metric("entropy/realised_informative", "nats", "neither", "Measured entropy change by the step, correct rollouts."),
    Metric("entropy/realised_spurious", "nats", "neither", "Measured entropy change by the step, incorrect rollouts."),
    Metric("entropy/bucket/{bucket}", "nats", "neither", "Mean entropy over groups solved to this share, in per cent."),
    Metric("logprob/gain_correct", "nats", "higher", "Mean log-prob gained by the step on correct rollouts' tokens."),
    Metric("logprob/gain_incorrect", "nats", "neither", "Mean log-prob gained by the step on incorrect rollouts."),
    Metric("logprob/gain/bucket/{bucket}", "nats", "neither", "Mean log-prob gained on groups solved to this share."),
    Metric("group/accuracy", "fraction", "higher", "Mean share of correct rollouts per group."),
    Metric("group/none_solved", "fraction", "lower", "Groups without a correct rollout."),
    Metric("group/mixed", "fraction", "higher", "Groups with both correct and incorrect rollouts."),
    Metric("group/all_solved", "fraction", "neither", "Groups with correct rollouts only."),
    Metric("group/effective", "fraction", "higher", "Groups with any advantage other than 0: those learnt from."),
    Metric("group/histogram", "count", "neither", "How many groups have 0, 1, ... n correct rollouts (a list)."),
    Metric("group/size_min", "count", "neither", "Rollouts in the smallest group."),
    Metric("group/size_max", "count", "neither", "Rollouts in the largest group."),
    Metric("pass_at_k/train/{k}", "fraction", "higher", "Unbiased pass@k over the step's training prompts."),
    Metric("reward/mean", "reward", "higher", "Mean reward of the step's rollouts."),
    Metric("reward/std", "reward", "neither", "Population standard deviation of the step's rewards."),
    Metric("reward/bonus_mean", "reward", "higher", "Mean of the step's bonuses, beside the reward; null: none."),
    Metric("reward/timeouts", "count", "lower", "Verifications stopped at their time limit; their reward is 0."),
    Metric("reward/errors", "count", "lower", "Verifications that gave no verdict, timeouts included; reward 0."),
    Metric("policy/loss", "number", "neither", "Loss, mean over the step's updates."),
    Metric("policy/grad_norm", "number", "neither", "Norm of the gradient before clipping, largest update."),
    Metric("policy/lr", "number", "neither", "Learning rate."),
    Metric("policy/clip_fraction_low", "fraction", "neither", "Tokens clipped at the lower bound (advantage under 0)."),
    Metric("policy/clip_fraction_high", "fraction", "neither", "Tokens clipped at the upper bound (advantage over 0)."),
    Metric("policy/clip_fraction_dual", "fraction", "neither", "Tokens whose loss the dual clip bounds."),
    Metric(
        "policy/clip_fraction_negative", "fraction", "neither", "Of the tokens with advantage under 0, those clipped."
    ),
    Metric(
        "policy/clip_fraction_positive", "fraction", "neither", "Of the tokens with advantage over 0, those clipped."
    ),
    Metric("policy/kl_old", "nats", "neither", "KL (k3 estimate) from the policy that sampled to the one trained."),
    Metric("policy/kl_ref", "nats", "neither", "KL (k3 estimate) from the policy to the frozen reference."),
    Metric("policy/ratio_max", "number", "lower", "Largest probability ratio of a token, trained to sampled."),
    Metric("rollout/length_mean", "tokens", "neither", "Mean length of the responses."),
    Metric("rollout/length_max", "tokens", "neither", "Length of the longest response."),
    Metric("rollout/truncated_fraction", "fraction", "lower", "Responses cut at the limit of new tokens."),
    Metric("rollout/logprob_diff_mean", "nats", "lower", "Mean |engine - trainer| of the sampled tokens' log-probs."),
    Metric("rollout/logprob_diff_max", "nats", "lower", "Largest |engine - trainer| of a sampled token's log-prob."),
    Metric("rollout/sampling_rounds", "count", "lower", "Rounds of prompts sampled to fill the step."),
    Metric("rollout/discarded_rollouts", "count", "lower", "Rollouts that dynamic sampling threw away."),
    Metric("rollout/discarded_tokens", "tokens", "lower", "Response tokens that dynamic sampling threw away."),
    Metric("perf/step_seconds", "seconds", "lower", "Wall time of the step."),
    Metric(
        "perf/finished_at", "seconds", "neither", "When the step was done: seconds since 1970, the trainer's clock."
    ),
    Metric("perf/rollout_seconds", "seconds", "lower", "Wall time of sampling."),
    Metric("perf/reward_seconds", "seconds", "lower", "Wall time of verification."),
    Metric("perf/update_seconds", "seconds", "lower", "Wall time of scoring, loss and optimizer."),
    Metric("perf/tokens_per_second", "tokens/second", "higher", "Response tokens per second of the whole step."),
    Metric("perf/peak_memory_bytes", "bytes", "lower", "Peak memory so far: the GPU's, or the process's on a CPU."),
    Metric("perf/engine_memory_bytes", "bytes", "lower", "As peak_memory, of an engine's own process; null: none."),
    Metric("progress/prompts", "count", "neither", "Prompts drawn since the beginning."),
    Metric("progress/tokens", "tokens", "neither", "Response tokens trained on since the beginning."),
    Metric("progress/epoch", "number", "neither", "Passes over the training data."),
    Metric("eval/{name}/pass_at_k/{k}", "fraction", "higher", "Unbiased pass@k, mean over the benchmark's problems."),
    Metric("eval/{name}/pass_at_k/{k}/low", "fraction", "higher", "Lower end of its 95 % interval over problems."),
    Metric("eval/{name}/pass_at_k/{k}/high", "fraction", "higher", "Upper end of its 95 % interval over problems."),
    Metric("eval/{name}/accuracy", "fraction", "higher", "Share of all samples that are correct."),
    Metric("eval/{name}/problems", "count", "neither", "Problems evaluated."),
    Metric("eval/{name}/length_mean", "tokens", "neither", "Mean length of the responses."),
    Metric("eval/{name}/truncated_fraction", "fraction", "lower", "Responses cut at the limit of new tokens."),
)

_SLOTS = {
    r"\{name\}": r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
    r"\{k\}": r"[1-9][0-9]{0,3}",
    r"\{bucket\}": "(?:" + "|".join(DIFFICULTY_BUCKETS) + ")",
}


def _pattern(template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for slot, form in _SLOTS.items():
        pattern = pattern.replace(slot, form)
    return re.compile(pattern)


_PATTERNS = tuple((_pattern(metric.template), metric) for metric in METRICS)


def find(key: str) -> Metric | None:
    """What is known of a key such as `eval/math500/pass_at_k/4`; None for a key outside the vocabulary."""
    return next((metric for pattern, metric in _PATTERNS if pattern.fullmatch(key)), None)


def is_known(key: str) -> bool:
    """Whether a key belongs to the vocabulary."""
    return find(key) is not None
