"""The `algorithm` section: which advantage, which loss, which of the independent options."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from trainer.spec.base import Real, SpecPart
from trainer.spec.presets import PRESETS


class Schedule(SpecPart):
    """A coefficient that moves from `start` to `end` over the first `steps` steps, then stays at `end`."""

    kind: Literal["linear", "cosine"]
    start: Real
    """The value in the first step."""
    end: Real
    """The value from then on."""
    steps: Annotated[int, Field(ge=1)]
    """Over so many steps."""

    def at(self, step: int) -> float:
        """The value used in training step `step` (the first is 1)."""
        t = min(max(step - 1, 0) / self.steps, 1.0)
        if self.kind == "cosine":
            t = (1.0 - math.cos(math.pi * t)) / 2.0
        return self.start + (self.end - self.start) * t


def _coefficient_form(value: object) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "constant"


Coefficient = Annotated[
    Annotated[Real, Tag("constant")] | Annotated[Schedule, Tag("schedule")], Discriminator(_coefficient_form)
]
"""A number, or a schedule; told apart by its form so that an error speaks of the one that was meant."""


def _known_preset(preset: str) -> str:
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; one of: {', '.join(PRESETS)}")
    return preset


def coefficient_at(coefficient: float | Schedule, step: int) -> float:
    """The value of a constant or scheduled coefficient in training step `step` (the first is 1)."""
    return coefficient.at(step) if isinstance(coefficient, Schedule) else coefficient


class AlgorithmSpec(SpecPart):
    """AsymGRPO and its relatives (arXiv 2604.04894). A preset fills the fields that are not given."""

    preset: Annotated[str, AfterValidator(_known_preset)] = "asymgrpo"
    """A named set of these fields; what is given beside it goes before it."""

    estimator: Literal["asymmetric", "group_norm", "mean_centered"] = "asymmetric"
    """asymmetric: the two powers of the odds; group_norm: (r - mean) / standard deviation of the group; mean_centered:
    r - mean."""
    beta_pos: Coefficient | None = None
    """Exponent of the odds against, for correct rollouts, of the asymmetric estimator; the others have none."""
    beta_neg: Coefficient | None = None
    """Exponent of the odds, for incorrect rollouts, of the asymmetric estimator; the others have none."""
    pos_scale: Annotated[Real, Field(ge=0)] = 1.0
    """Factor of correct rollouts' advantages, of the asymmetric estimator."""
    neg_scale: Annotated[Real, Field(ge=0)] = 1.0
    """Factor of incorrect rollouts' advantages, of the asymmetric estimator."""
    uniform_groups: Literal["zero", "keep"] = "zero"
    """What groups that are all right or all wrong get, of the asymmetric estimator: 0, or plus and minus the scales."""
    success_threshold: Real | None = None
    """A reward at or above it counts as correct. Without it a reward is correct when it is 1."""

    clip_low: Annotated[Real, Field(gt=0, lt=1)] = 0.2
    """The probability ratio is clipped at 1 - clip_low."""
    clip_high: Annotated[Real, Field(gt=0)] = 0.2
    """The probability ratio is clipped at 1 + clip_high; above clip_low it is Clip-higher."""
    dual_clip: Annotated[Real, Field(gt=1)] | None = None
    """Bounds the loss of a token with a negative advantage at so many times that advantage."""
    loss_reduction: Literal["token_mean", "sequence_mean", "fixed_length"] = "token_mean"
    """Mean over all response tokens of an update; mean over rollouts of their means; sum over rollouts x
    max_new_tokens."""

    kl_coef: Annotated[Real, Field(ge=0)] = 0.0
    """Weight of the KL to the model that the run began with (k3), in the loss."""
    entropy_coef: Annotated[Real, Field(ge=0)] = 0.0
    """Weight of the entropy bonus."""
    entropy_target: Annotated[Real, Field(gt=0)] | None = None
    """With a target (nats), the bonus adapts: off while the entropy is above it, `entropy_coef` while below."""
    mask_truncated: bool = False
    """Leave responses that were cut at the limit of new tokens out of the loss."""
    top_entropy_fraction: Annotated[Real, Field(gt=0, le=1)] | None = None
    """Train on this share of the tokens alone, those with the highest entropy."""
    importance_correction: Literal["none", "token_truncated", "sequence_masked"] = "none"
    """What makes up for an engine whose log-probs differ from the trainer's: weigh tokens, at most by the cap, or
    leave out sequences beyond it."""
    importance_cap: Annotated[Real, Field(gt=1)] = 2.0
    """The largest importance weight."""
    dynamic_sampling_rounds: Annotated[int, Field(ge=0, le=16)] = 0
    """How many extra rounds of prompts may be sampled to replace groups without a gradient."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset", "asymgrpo")
        return {**PRESETS.get(preset, {}), **given} if isinstance(preset, str) else given

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        betas = {"beta_pos": self.beta_pos, "beta_neg": self.beta_neg}
        for name, beta in betas.items():
            if self.estimator == "asymmetric" and beta is None:
                raise ValueError(f"{name} is needed by the asymmetric estimator")
            if self.estimator != "asymmetric" and beta is not None:
                raise ValueError(f"{name} has no effect with estimator {self.estimator}; preset asymgrpo uses it")
        if self.entropy_target is not None and self.entropy_coef == 0:
            raise ValueError("entropy_target needs entropy_coef above 0")
        return self

    @property
    def needs_binary_rewards(self) -> bool:
        return self.estimator == "asymmetric"

    def needs_success_threshold(self, rewards_are_graded: bool) -> bool:
        """Whether rewards between 0 and 1 would have to be told apart by a threshold that is not given."""
        return rewards_are_graded and self.needs_binary_rewards and self.success_threshold is None
