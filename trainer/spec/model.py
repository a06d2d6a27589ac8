"""The `model` section, and what is known of a model without loading it."""

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from trainer.spec.base import Real, SpecPart

BUILTIN_MODELS = ("builtin/tiny-arith", "builtin/smollm2-135m-instruct")

TINY_ARITH_ALPHABET = "0123456789+-*= "
"""The characters `builtin/tiny-arith` knows. A prompt with any other is refused when the job is created."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_PATTERNS = {
    "builtin": re.compile(rf"builtin/({_NAME})"),
    "hf": re.compile(rf"hf/({_NAME}/{_NAME})"),
    "path": re.compile(rf"path/({_NAME})"),
    "job": re.compile(r"job/(job_[a-z0-9]{1,64}@[0-9]{1,9})"),
}


class ModelRef(NamedTuple):
    """A model id taken apart: `builtin/tiny-arith` is ("builtin", "tiny-arith")."""

    source: Literal["builtin", "hf", "path", "job"]
    name: str


def parse_model_id(model_id: str) -> ModelRef:
    """Take a model id apart. ValueError for anything but the four forms; names can never climb out of a folder."""
    for source, pattern in _PATTERNS.items():
        match = pattern.fullmatch(model_id)
        if match and not (source == "builtin" and model_id not in BUILTIN_MODELS):
            return ModelRef(source, match[1])  # type: ignore[arg-type]
    raise ValueError(
        f"unknown model id {model_id!r}; one of: {', '.join(BUILTIN_MODELS)}, hf/ORG/NAME, path/NAME, job/JOB_ID@STEP"
    )


def _known(model_id: str) -> str:
    parse_model_id(model_id)
    return model_id


def _no_head(names: list[str]) -> list[str]:
    if any(name.rpartition(".")[2] == "lm_head" for name in names):
        raise ValueError("lm_head can't be adapted: log-probs are computed from its weight directly")
    return names


ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=256)]


class LoraSpec(SpecPart):
    """Low-rank adaptation (arXiv 2106.09685): W + (alpha / rank) B A, of which only A and B are trained."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Columns of A, rows of B."""
    alpha: Annotated[Real, Field(gt=0)] = Field(default_factory=lambda before: 2.0 * before["rank"])
    """Twice the rank unless given."""
    dropout: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Of the adapter's input, in updates only. 0 unless given, since the policy that is scored must be the one that
    sampled: with dropout in the update and none in sampling, the very first ratio is no longer 1 and clipping acts on
    the noise."""
    target_modules: (
        Literal["all-linear"] | Annotated[list[ModuleName], Field(min_length=1), AfterValidator(_no_head)]
    ) = "all-linear"
    """Which linear layers: all but the head, or those whose name is or ends with one of these (`q_proj`)."""


class ModelSpec(SpecPart):
    id: Annotated[str, AfterValidator(_known)]
    """builtin/NAME, hf/ORG/NAME, path/NAME, or job/JOB_ID@STEP: a checkpoint of another job."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the forward and backward pass compute in; auto is bfloat16 on a GPU, else float32. The weights that the
    optimizer updates are always float32, since a bfloat16 weight cannot take a step of 2e-6."""
    lora: LoraSpec | None = None
    """Train an adapter of these dimensions and leave the model as it is; None: full fine-tuning."""
