"""Every error leaves as application/problem+json (RFC 9457), and this module is where it becomes one.

Owns the problem object, and which exception of the store, of FastAPI and of the database turns into which status.
What a particular check has to say stays with the check: it raises `Problem`, or lets the store's error pass.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import exc as database_errors
from starlette.exceptions import HTTPException

from api.openai import errors as openai_errors
from api.spec_errors import request_errors
from store import errors as store_errors
from store import logs

logger = logging.getLogger(__name__)

DATABASE_AWAY = (database_errors.OperationalError, database_errors.InterfaceError, database_errors.TimeoutError)
"""What SQLAlchemy raises when the database does not answer (or has no connection left for us)."""
RETRY_AFTER_SECONDS = 5
SUMMED_UP = 5
"""How many errors `detail` repeats in words."""

MEDIA_TYPE = "application/problem+json"

_LIMITS = {"queued_jobs": (429, "queue-limit"), "disk_bytes": (413, "disk-limit")}
"""What a team at its limit is answered: too many of them; or more than may be kept, be it a file or a job's to come."""


class FieldError(BaseModel):
    """What is wrong with one field of the request."""

    loc: list[str | int] = Field(examples=[["body", "algorithm", "beta_pos"]])
    """Where: body, query, path or header, then the way to the field."""
    msg: str = Field(examples=["Input should be a finite number"])
    rows: list[int] | None = None
    """Of a data set that the model cannot read: the first 1,000 rows at fault."""


class LineError(BaseModel):
    """What is wrong with one line (row, for Parquet) of an uploaded data set; lines count from 1."""

    line: int = Field(examples=[3])
    field: str | None = Field(examples=["answer"])
    msg: str = Field(examples=["is missing"])


class ProblemBody(BaseModel):
    """An error, as RFC 9457 has it, with the fields at fault."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:asym:problem:invalid",
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": "algorithm.beta_pos: Input should be a finite number",
                    "instance": "/jobs",
                    "errors": [{"loc": ["body", "algorithm", "beta_pos"], "msg": "Input should be a finite number"}],
                    "request_id": "req_5f0c2d1e8b7a69341d20c9ae",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError | LineError] = []
    error_count: int | None = None
    """How many errors there are in all, where `errors` may list only the first of them."""
    request_id: str | None = None
    """What the request is called in the server's log; also the header `X-Request-ID`."""


class Problem(Exception):  # noqa: N818 - it is what RFC 9457 calls it
    """Raised by a check of the API to answer with this status, these words and these fields at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: dict[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers
        self.extra = extra


def invalid(loc: Sequence[str | int], msg: str) -> Problem:
    """The 422 for one field of the request."""
    return all_invalid([{"loc": list(loc), "msg": msg}])


def all_invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The 422 for several fields."""
    return Problem(422, "invalid", _sentence(errors), errors=errors)


def missing(loc: Sequence[str | int], msg: str) -> Problem:
    """The 404 for a field of the request that names something which is not there (or is another team's)."""
    return all_missing([{"loc": list(loc), "msg": msg}])


def all_missing(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The 404 for several fields."""
    return Problem(404, "not-found", _sentence(errors), errors=errors)


def respond(request: Request, problem: Problem) -> JSONResponse:
    known = {} if (request_id := logs.about("request")) is None else {"request_id": str(request_id)}
    headers = {**(problem.headers or {}), **({"X-Request-ID": known["request_id"]} if known else {})}
    if request.url.path.startswith(openai_errors.PREFIX):
        told = openai_errors.body_of(problem.status, problem.code, problem.detail, problem.errors)
        return JSONResponse(told, openai_errors.status_of(problem.status, problem.code), headers=headers)
    body = {
        "type": f"urn:asym:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        **({"errors": problem.errors} if problem.errors else {}),
        **problem.extra,
        **known,
    }
    return JSONResponse(body, problem.status, headers=headers, media_type=MEDIA_TYPE)


def register(app: FastAPI) -> None:
    """Give `app` an answer for every exception that may leave a route."""

    @app.exception_handler(Problem)
    async def of_the_api(request: Request, error: Problem) -> JSONResponse:
        return respond(request, error)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(request, all_invalid(request_errors(error.errors(), error.body)))

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == HTTPStatus.BAD_REQUEST:
            # FastAPI's, for a body whose bytes are not text. Here what is wrong with a body is a 422.
            return respond(request, invalid(["body"], "not JSON in UTF-8"))
        code = HTTPStatus(error.status_code).name.lower().replace("_", "-")
        headers = dict(error.headers) if error.headers else None
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(_methods_of(request))}
        return respond(request, Problem(error.status_code, code, str(error.detail), headers=headers))

    @app.exception_handler(store_errors.NotFound)
    async def of_a_missing_object(request: Request, error: store_errors.NotFound) -> JSONResponse:
        return respond(request, Problem(404, "not-found", str(error)))

    @app.exception_handler(store_errors.Conflict)
    async def of_a_conflict(request: Request, error: store_errors.Conflict) -> JSONResponse:
        return respond(request, Problem(409, "conflict", str(error)))

    @app.exception_handler(store_errors.Stale)
    async def of_an_edit_too_late(request: Request, error: store_errors.Stale) -> JSONResponse:
        return respond(request, Problem(412, "precondition-failed", str(error)))

    @app.exception_handler(store_errors.Forbidden)
    async def of_a_role(request: Request, error: store_errors.Forbidden) -> JSONResponse:
        return respond(request, Problem(403, "forbidden", str(error)))

    @app.exception_handler(store_errors.LimitReached)
    async def of_a_team_at_its_limit(request: Request, error: store_errors.LimitReached) -> JSONResponse:
        status, code = _LIMITS[error.limit]
        return respond(request, Problem(status, code, str(error)))

    @app.exception_handler(store_errors.Invalid)
    async def of_the_store(request: Request, error: store_errors.Invalid) -> JSONResponse:
        return respond(request, all_invalid(error.errors))

    @app.exception_handler(database_errors.DataError)
    async def of_an_unstorable_value(request: Request, error: database_errors.DataError) -> JSONResponse:
        # A number beyond the column's range, or U+0000 in text: the request's fault.
        logger.info("%s %s: %s", request.method, request.url.path, error.orig)
        return respond(request, Problem(422, "invalid", "a value of the request is out of range or holds U+0000"))

    for away in DATABASE_AWAY:
        app.add_exception_handler(away, _of_a_database_away)
    app.add_exception_handler(Exception, _of_a_bug)


def _methods_of(request: Request) -> list[str]:
    """What may be asked of the path; Starlette's own answer knows only the first of its routes."""
    asked = request.scope.get("route")
    routes = [route for route in request.app.routes if getattr(route, "path", None) == getattr(asked, "path", "")]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


async def _of_a_database_away(request: Request, error: Exception) -> JSONResponse:
    logger.warning("%s %s: the database does not answer: %s", request.method, request.url.path, _first_line(error))
    return respond(request, database_away())


def database_away() -> Problem:
    return Problem(
        503,
        "unavailable",
        "the database does not answer; try again",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


async def _of_a_bug(request: Request, _: Exception) -> JSONResponse:
    # The server logs the traceback; the caller learns nothing of it.
    return respond(request, Problem(500, "internal", "an error of the server; its log has the details"))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    more = f"; and {len(errors) - SUMMED_UP} more" if len(errors) > SUMMED_UP else ""
    return "; ".join(f"{_dotted(error['loc'])}: {error['msg']}" for error in errors[:SUMMED_UP]) + more


def _dotted(loc: Sequence[str | int]) -> str:
    """`["body", "eval", 0, "k"]` as `eval.0.k`."""
    return ".".join(str(part) for part in (loc[1:] if len(loc) > 1 and loc[0] == "body" else loc))
