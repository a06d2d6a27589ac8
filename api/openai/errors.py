"""Errors in OpenAI's shape, by which the official client chooses the exception that it raises.

Everything below /v1 answers with them: `api.problems` asks here before it writes a problem document.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

PREFIX = "/v1/"

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 404: "not_found"}

_EXAMPLE = {
    "error": {
        "message": "method.reinforcement.grader.reference: must be one field of the row, e.g. {{item.answer}}",
        "type": "invalid_request_error",
        "param": "method.reinforcement.grader.reference",
        "code": "invalid",
    }
}

_MEANINGS = {
    400: "The request is wrong; `param` names the first field at fault. (BadRequestError)",
    401: "No key, or one that is not valid (any more). (AuthenticationError)",
    403: "The key's role does not allow it. (PermissionDeniedError)",
    404: "No such object, or another team's. (NotFoundError)",
    409: "It contradicts the object's present state. (ConflictError)",
    413: "Too large.",
    415: "Not multipart/form-data.",
    422: "The file was refused; `errors` lists its bad lines. (UnprocessableEntityError)",
    429: "Too many. (RateLimitError)",
    503: "The database, or no worker to do it, does not answer. (InternalServerError)",
}


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None
    errors: list[dict[str, Any]] | None = None
    """Beyond OpenAI's shape: every field, or line of a file, at fault."""


class OpenAIError(BaseModel):
    """An error as OpenAI's API answers it."""

    error: ErrorBody


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: these errors, and those of every route."""
    shape = {"schema": {"$ref": "#/components/schemas/OpenAIError"}, "example": _EXAMPLE}
    return {
        str(status): {"description": _MEANINGS[status], "content": {"application/json": shape}}
        for status in sorted({*statuses, 400, 401, 429, 503})
    }


def status_of(status: int, code: str) -> int:
    """OpenAI answers 400 where we answer 422 for a field of the request; a refused file stays a 422."""
    return 400 if (status, code) == (422, "invalid") else status


def body_of(status: int, code: str, detail: str, errors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The error's JSON. status, code: as the problem has them."""
    told = status_of(status, code)
    default = "invalid_request_error" if told < 500 else "server_error"
    body: dict[str, Any] = {
        "message": detail,
        "type": _TYPES.get(told, default),
        "param": _param(errors[0]) if errors else None,
        "code": _CODES.get(told, code.replace("-", "_")),
    }
    return {"error": {**body, "errors": list(errors)} if errors else body}


def _param(error: Mapping[str, Any]) -> str | None:
    if "loc" not in error:
        return "file"
    place = [str(part) for part in error["loc"]]
    return ".".join(place[1:] if len(place) > 1 else place)
