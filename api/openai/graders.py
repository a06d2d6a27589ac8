"""OpenAI's graders as our verifiers. Only those are taken that mean here exactly what they mean there.

    string_check     eq, ne: the output is, is not the reference; like, ilike: it holds it, with and without case
    text_similarity  fuzzy_match, rouge_1 to rouge_5, rouge_l, right from `pass_threshold` on: AsymGRPO tells right from
                     wrong, so a similarity alone is no reward here

The reference is one field of the row, `{{item.answer}}`, and the input the whole response, `{{sample.output_text}}`:
a verifier of ours gets the one and the other, and no text made of both.
"""

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from api.problems import Problem, invalid

PLACE = ("body", "method", "reinforcement", "grader")

_INPUT = re.compile(r"\s*\{\{\s*sample\.output_text\s*\}\}\s*")
_REFERENCE = re.compile(r"\s*\{\{\s*item\.([A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,7})\s*\}\}\s*")

_STRING_CHECKS: dict[str, dict[str, Any]] = {
    "eq": {"match": "equal"},
    "ne": {"match": "differ"},
    "like": {"match": "contain"},
    "ilike": {"match": "contain", "ignore_case": True},
}
_METRICS = ("fuzzy_match", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l")
_REFUSED = {
    "python": "runs your code. Here that is a job's own verifier in the operator's sandbox: POST /jobs with "
    "reward.kind python",
    "score_model": "asks another model for a score. Here that is an endpoint of the operator's: POST /jobs with "
    "reward.kind http:NAME",
    "label_model": "asks another model for a label. Here that is an endpoint of the operator's: POST /jobs with "
    "reward.kind http:NAME",
    "multi": "mixes scores into one that is neither right nor wrong, which AsymGRPO needs",
    "endpoint": "calls an address of the request's. Here the operator names endpoints: POST /jobs with reward.kind "
    "http:NAME",
}

# Graders that are refused by their type have other things there; they are told that, and not of the form of these.
Template = Annotated[Any, WithJsonSchema({"type": "string", "maxLength": 1000})]


class Grader(BaseModel):
    """A grader: string_check (with `operation`) or text_similarity (with `evaluation_metric` and `pass_threshold`)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "string_check",
                    "name": "right",
                    "operation": "eq",
                    "input": "{{sample.output_text}}",
                    "reference": "{{item.answer}}",
                }
            ]
        },
    )

    type: str = Field(max_length=64)
    name: str = Field(default="grader", max_length=200)
    input: Template = None
    reference: Template = None
    operation: Literal["eq", "ne", "like", "ilike"] | None = None
    evaluation_metric: Annotated[str, StringConstraints(max_length=64)] | None = None
    pass_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None


class Graded(NamedTuple):
    """A grader in our terms."""

    reward: dict[str, Any]
    """The spec's `reward` section."""
    reference: str
    """The row's field that holds the answer: `data.columns.answer`."""


def verifier_of(grader: Grader) -> Graded:
    """Problem 422 that says what cannot be done, and what can."""
    if grader.type in _REFUSED:
        raise _refused("type", f"{grader.type} {_REFUSED[grader.type]}. Graders here: string_check, text_similarity")
    if grader.type not in ("string_check", "text_similarity"):
        raise _refused("type", f"no grader {grader.type!r}; there are: string_check, text_similarity")
    known = set(Grader.model_fields)
    unknown = sorted(set(grader.model_extra or {}) - known)
    if unknown:
        raise _refused(unknown[0], "unknown key")
    if not isinstance(grader.input, str) or not _INPUT.fullmatch(grader.input):
        raise _refused("input", "must be {{sample.output_text}}, the whole response")
    found = _REFERENCE.fullmatch(grader.reference) if isinstance(grader.reference, str) else None
    if found is None:
        raise _refused("reference", "must be one field of the row as it is, e.g. {{item.answer}}")
    return Graded(_string_check(grader) if grader.type == "string_check" else _similarity(grader), found[1])


def _string_check(grader: Grader) -> dict[str, Any]:
    if grader.operation is None:
        raise _refused("operation", f"is missing; one of: {', '.join(_STRING_CHECKS)}")
    # OpenAI compares characters, whitespace included.
    return {"kind": "exact", "options": {**_STRING_CHECKS[grader.operation], "normalize_whitespace": False}}


def _similarity(grader: Grader) -> dict[str, Any]:
    if grader.evaluation_metric not in _METRICS:
        raise _refused(
            "evaluation_metric",
            f"{grader.evaluation_metric!r} is not computed here; there are: {', '.join(_METRICS)}",
        )
    if grader.pass_threshold is None:
        raise _refused(
            "pass_threshold",
            "is missing: a response must be right or wrong here, so say from which similarity on (above 0, up to 1) it "
            "is right",
        )
    return {
        "kind": "similarity",
        "options": {"metric": grader.evaluation_metric, "threshold": grader.pass_threshold},
    }


def grader_of(reward: dict[str, Any], reference: str | None) -> dict[str, Any]:
    """The nearest grader of a job that was made as a job spec; its own kind where there is none."""
    options = reward.get("options") or {}
    common = {
        "name": reward["kind"],
        "input": "{{sample.output_text}}",
        "reference": f"{{{{item.{reference or 'answer'}}}}}",
    }
    if reward["kind"] == "similarity":
        return {
            "type": "text_similarity",
            "evaluation_metric": options["metric"],
            "pass_threshold": options["threshold"],
            **common,
        }
    if reward["kind"] != "exact":
        return {"type": reward["kind"], **common}
    match, folded = options.get("match", "equal"), options.get("ignore_case", False)
    operation = {"equal": "eq", "differ": "ne", "contain": "ilike" if folded else "like"}[match]
    return {"type": "string_check", "operation": operation, **common}


def _refused(field: str, msg: str) -> Problem:
    return invalid([*PLACE, field], msg)
