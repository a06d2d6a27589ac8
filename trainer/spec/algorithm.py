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
    end: Real
    steps: Annotated[int, Field(ge=1)]

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

    estimator: Literal["asymmetric", "group_norm", "mean_centered"] = "asymmetric"
    beta_pos: Coefficient | None = None
    beta_neg: Coefficient | None = None
    """Exponents of the asymmetric estimator; None (and refused if given) for the others, which have none."""
    pos_scale: Annotated[Real, Field(ge=0)] = 1.0
    neg_scale: Annotated[Real, Field(ge=0)] = 1.0
    uniform_groups: Literal["zero", "keep"] = "zero"
    success_threshold: Real | None = None
    """A reward at or above it counts as correct. Without it a reward is correct when it is 1."""

    clip_low: Annotated[Real, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[Real, Field(gt=0)] = 0.2
    dual_clip: Annotated[Real, Field(gt=1)] | None = None
    loss_reduction: Literal["token_mean", "sequence_mean", "fixed_length"] = "token_mean"

    kl_coef: Annotated[Real, Field(ge=0)] = 0.0
    entropy_coef: Annotated[Real, Field(ge=0)] = 0.0
    entropy_target: Annotated[Real, Field(gt=0)] | None = None
    """With a target (nats), the bonus adapts: off while the entropy is above it, `entropy_coef` while below."""
    mask_truncated: bool = False
    top_entropy_fraction: Annotated[Real, Field(gt=0, le=1)] | None = None
    importance_correction: Literal["none", "token_truncated", "sequence_masked"] = "none"
    importance_cap: Annotated[Real, Field(gt=1)] = 2.0
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
