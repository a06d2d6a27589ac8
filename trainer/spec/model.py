"""The `model` section, and what is known of a model without loading it."""

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator

from trainer.spec.base import SpecPart

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


class ModelSpec(SpecPart):
    id: Annotated[str, AfterValidator(_known)]
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the forward and backward pass compute in; auto is bfloat16 on a GPU, else float32. The weights that the
    optimizer updates are always float32, since a bfloat16 weight cannot take a step of 2e-6."""
