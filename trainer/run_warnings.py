"""Notices from a run's metrics that it is going wrong in ways that no exception shows.

`observe` is a pure state machine, fed once per step. It owns the conditions and their wording; the loop sends what it
returns as events and keeps the state, small and plain, in the checkpoint, so that a resumed run warns exactly as an
uninterrupted one. (Not named `warnings`, which is the standard library's.)
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from trainer.spec.events import Metrics


class RunWarning(NamedTuple):
    code: str
    """Stable: entropy_collapse, entropy_explosion, no_gradient, mostly_truncated, engine_mismatch, reward_constant,
    gradient_spike."""
    message: str


@dataclass(frozen=True)
class Thresholds:
    """When to warn. Steps are consecutive; a step in which a metric is undefined neither counts nor interrupts."""

    baseline_steps: int = 5
    """The entropy of so many first steps, averaged, is what collapse and explosion are measured against."""
    entropy_steps: int = 5
    collapse_fraction: float = 0.1
    """Collapse: entropy under this share of the baseline ..."""
    collapse_nats: float = 0.01
    """... or under this, whatever the baseline: nothing is left to explore."""
    explosion_factor: float = 3.0
    """Explosion: entropy over this multiple of the baseline ..."""
    explosion_nats: float = 0.5
    """... and over the baseline by at least this, so that tiny entropies may multiply in peace."""
    effective_fraction: float = 0.05
    no_gradient_steps: int = 20
    truncated_fraction: float = 0.8
    mismatch_nats: float = 0.05
    """Mean |log-prob difference| between engine and trainer; bfloat16 engines stay well under it, stale weights do
    not for long."""
    reward_steps: int = 10
    spike_factor: float = 8.0
    """A gradient's norm over so many times the median of those before it ..."""
    spike_median_of: int = 50
    """... of so many at most ..."""
    spike_least: int = 10
    """... once there are so many."""
    recovery_steps: int = 5
    """An episode ends after so many steps without its condition; then the same warning may be raised again."""


class Episode(NamedTuple):
    """How long one condition has held, and since when it has not."""

    held: int = 0
    raised: bool = False
    calm: int = 0

    def next(self, holds: bool | None, patience: int, recovery: int) -> "Episode":
        if holds is None:
            return self
        if holds:
            held = self.held + 1
            return Episode(held, self.raised or held >= patience, 0)
        calm = self.calm + 1
        return Episode(0, self.raised and calm < recovery, calm)


@dataclass(frozen=True)
class WarningState:
    """All that `observe` remembers between steps."""

    first_entropies: tuple[float, ...] = ()
    last_reward: float | None = None
    """The one reward that every rollout of the last step got; None when they differed."""
    norms: tuple[float, ...] = ()
    """Of the last gradients."""
    episodes: Mapping[str, Episode] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, exactly."""
        return {
            "first_entropies": list(self.first_entropies),
            "last_reward": self.last_reward,
            "norms": list(self.norms),
            "episodes": {code: list(episode) for code, episode in self.episodes.items()},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "WarningState":
        """What `to_dict` gave, before or after a trip through JSON. KeyError or TypeError for anything else."""
        return cls(
            tuple(state["first_entropies"]),
            state["last_reward"],
            # Of a checkpoint from before they were looked at there are none.
            norms=tuple(state.get("norms", ())),
            episodes=MappingProxyType({code: Episode(*episode) for code, episode in state["episodes"].items()}),
        )


class _Condition(NamedTuple):
    holds: bool | None
    """None: not known in this step."""
    patience: int
    message: str


def observe(
    state: WarningState, metrics: Metrics, thresholds: Thresholds | None = None
) -> tuple[WarningState, list[RunWarning]]:
    """Take in one step's metrics. Returns the next state and what to warn of now, each once per episode."""
    limits = thresholds or Thresholds()
    entropy = _number(metrics, "entropy/policy")
    first = state.first_entropies
    if entropy is not None and len(first) < limits.baseline_steps:
        first = (*first, entropy)
    reward = _number(metrics, "reward/mean")
    same_reward = reward if _number(metrics, "reward/std") == 0 else None
    norm = _number(metrics, "policy/grad_norm")

    conditions = {
        **_entropy_conditions(entropy, first, limits),
        "no_gradient": _no_gradient(metrics, limits),
        "mostly_truncated": _mostly_truncated(metrics, limits),
        "engine_mismatch": _engine_mismatch(metrics, limits),
        "reward_constant": _Condition(
            None if reward is None else same_reward is not None,
            limits.reward_steps,
            f"every rollout of the last {limits.reward_steps} steps got the same reward as all others of its step "
            f"(now {reward}): look at some rollouts and at what the verifier makes of them",
        ),
    }
    conditions["gradient_spike"] = _gradient_spike(norm, state.norms, limits)
    if same_reward is not None and state.last_reward is not None and same_reward != state.last_reward:
        # All 0 in one step and all 1 in the next is a verifier that tells the two apart.
        conditions["reward_constant"] = conditions["reward_constant"]._replace(holds=False)

    episodes: dict[str, Episode] = {}
    raised: list[RunWarning] = []
    for code, condition in conditions.items():
        before = state.episodes.get(code, Episode())
        episodes[code] = before.next(condition.holds, condition.patience, limits.recovery_steps)
        if episodes[code].raised and not before.raised:
            raised.append(RunWarning(code, condition.message))
    last_reward = state.last_reward if reward is None else same_reward
    norms = state.norms if norm is None else (*state.norms, norm)[-limits.spike_median_of :]
    return WarningState(first, last_reward, norms, MappingProxyType(episodes)), raised


def _entropy_conditions(entropy: float | None, first: tuple[float, ...], limits: Thresholds) -> dict[str, _Condition]:
    collapsed: bool | None = None
    exploded: bool | None = None
    baseline = sum(first) / len(first) if first else 0.0
    if entropy is not None:
        collapsed = entropy < limits.collapse_nats
        if len(first) >= limits.baseline_steps:
            collapsed = collapsed or entropy < limits.collapse_fraction * baseline
            exploded = entropy > max(limits.explosion_factor * baseline, baseline + limits.explosion_nats)
    shown = "" if entropy is None else f"{entropy:.4g} nats per token, {baseline:.4g} at the beginning"
    return {
        "entropy_collapse": _Condition(
            collapsed,
            limits.entropy_steps,
            f"the policy's entropy has collapsed ({shown}): all rollouts of a prompt become the same and nothing is "
            "explored; a larger beta_pos, a higher clip_high or a lower learning rate keep it up",
        ),
        "entropy_explosion": _Condition(
            exploded,
            limits.entropy_steps,
            f"the policy's entropy has exploded ({shown}): responses turn to noise; a lower learning rate, a lower "
            "entropy_coef or a lower beta_pos hold it down",
        ),
    }


def _no_gradient(metrics: Metrics, limits: Thresholds) -> _Condition:
    # For binary rewards these are the same unless uniform groups are kept, and then those do give a gradient.
    share = _number(metrics, "group/effective")
    if share is None:
        share = _number(metrics, "group/mixed")
    return _Condition(
        None if share is None else share < limits.effective_fraction,
        limits.no_gradient_steps,
        f"fewer than {limits.effective_fraction:.0%} of the groups gave a gradient in each of the last "
        f"{limits.no_gradient_steps} steps: the prompts are too hard or too easy for this model, or the verifier "
        "judges all answers alike",
    )


def _mostly_truncated(metrics: Metrics, limits: Thresholds) -> _Condition:
    share = _number(metrics, "rollout/truncated_fraction")
    shown = "" if share is None else f"{share:.0%} of the responses "
    return _Condition(
        None if share is None else share > limits.truncated_fraction,
        1,
        f"{shown}were cut at the limit of new tokens before they ended: raise rollout.max_new_tokens, or check that "
        "the model knows how to stop",
    )


def _engine_mismatch(metrics: Metrics, limits: Thresholds) -> _Condition:
    difference = _number(metrics, "rollout/logprob_diff_mean")
    shown = "" if difference is None else f"{difference:.3g} nats "
    return _Condition(
        None if difference is None else difference > limits.mismatch_nats,
        1,
        f"the engine's log-probs of its own samples are {shown}from the trainer's on average: it may sample with old "
        "weights, at another temperature or in a coarser number format; importance_correction can make up for the last",
    )


def _gradient_spike(norm: float | None, before: tuple[float, ...], limits: Thresholds) -> _Condition:
    usual = statistics.median(before) if len(before) >= limits.spike_least else None
    known = norm is not None and usual is not None
    shown = f"{norm:.4g}, usually {usual:.4g}" if known else ""
    return _Condition(
        norm > limits.spike_factor * usual if norm is not None and usual is not None else None,
        1,
        f"the gradient's norm is over {limits.spike_factor:g} times its usual one ({shown}): look at this step's "
        "rollouts and advantages; optim.max_grad_norm bounds what it did",
    )


def _number(metrics: Metrics, key: str) -> float | None:
    value = metrics.get(key)
    return float(value) if isinstance(value, int | float) else None
