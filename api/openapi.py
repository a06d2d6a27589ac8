"""What the OpenAPI document says beyond the routes' own types: errors, and examples."""

from typing import Any, Unpack, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import ConfigDict
from pydantic.config import JsonDict

from api.links import add_links
from api.openai.errors import OpenAIError
from api.problems import MEDIA_TYPE, ProblemBody

DESCRIPTION = """
Training-as-a-service for RLVR: upload a data set, POST a job, watch its metrics.

Send `Authorization: Bearer asym_...` with every request but `/healthz`, `/readyz` and `/metrics`. Errors are
`application/problem+json` (RFC 9457); `errors` names the fields at fault. Another team's object answers 404.
"""

SPEC_EXAMPLES: dict[str, Any] = {
    "tiny": {
        "summary": "Two minutes on a CPU: a 0.9 M-parameter model learns arithmetic",
        "value": {
            "name": "first-run",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "ds_01jz8x6v5p3q2r1s0t9w8y7zab"},
            "reward": {"kind": "exact"},
            "algorithm": {"preset": "asymgrpo", "beta_pos": 0.9, "beta_neg": 0.4},
            "rollout": {"group_size": 8, "max_new_tokens": 8},
            "optim": {"lr": 3e-4, "prompts_per_step": 32},
            "train": {"steps": 60},
        },
    },
    "gsm8k": {
        "summary": "SmolLM2 on grade-school mathematics, evaluated as it trains",
        "value": {
            "name": "gsm8k-asym",
            "model": {"id": "builtin/smollm2-135m-instruct"},
            "data": {"train": "ds_01jz8x6v5p3q2r1s0t9w8y7zab", "system_prompt": "Put the answer in \\boxed{}."},
            "reward": {"kind": "math"},
            "train": {"steps": 100},
            "eval": [{"name": "gsm8k", "data": "ds_01jz8x6v5p3q2r1s0t9w8y7zac", "samples": 8, "k": [1, 8]}],
            "checkpoint": {"every": 20, "keep_best": "eval/gsm8k/pass_at_k/1"},
        },
    },
}

_PROBLEMS = {
    "401": "No key, or one that is not valid (any more).",
    "403": "The key's role does not allow it.",
    "404": "No such object, or another team's.",
    "409": "It contradicts the object's present state.",
    "412": "It was edited since (`If-Match`).",
    "413": "Too large, or more than the team may keep on disk.",
    "415": "Another media type than the one asked for.",
    "422": "A value is not acceptable; `errors` names the field.",
    "429": "Too many requests, or as many jobs in the queue as the team may have.",
    "503": "The database does not answer; try again after `Retry-After` seconds.",
}


def example(value: object, **more: Unpack[ConfigDict]) -> ConfigDict:
    """`model_config` of a shape: an example of it, and whatever else the model's config says."""
    return ConfigDict(json_schema_extra=cast(JsonDict, {"examples": [value]}), **more)


def problem_content(example: object = None) -> dict[str, Any]:
    """`content` of an error answer."""
    shape: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {MEDIA_TYPE: shape if example is None else {**shape, "example": example}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route or router: these errors, and those of every route (401, 422, 429, 503)."""
    return {
        str(status): {"description": _PROBLEMS[str(status)], "content": problem_content()}
        for status in sorted({*statuses, 401, 422, 429, 503})
    }


def operation_id(route: APIRoute) -> str:
    """The endpoint's function name: stable however paths and tags move, and readable in a generated client."""
    return route.name


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=app.openapi_tags
        )
        schemas = document["components"]["schemas"]
        problem = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = {**problem, "title": "Problem"}
        error = OpenAIError.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(error.pop("$defs"))
        schemas["OpenAIError"] = error
        # FastAPI's own error shapes, which never leave this API.
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        for operation in (each for path in document["paths"].values() for each in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
        add_links(document)
        app.openapi_schema = document
    return app.openapi_schema
