"""pydantic's errors in the words of whoever wrote the request: one per field, its place as written, no jargon.

pydantic puts the branch of a union that it tried (`constant`, `literal['auto']`, `schedule`) into an error's place, and
reports each branch on its own. Here such parts are dropped, by walking the request along the place, and the errors of
one field become one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PREFIXES = ("Value error, ", "Assertion failed, ")

_UNKNOWN_KEY = "unknown key"


def readable_errors(errors: Iterable[Mapping[str, Any]], body: object) -> list[dict[str, Any]]:
    """`[{loc, msg}]`, one per field, each loc beginning with "body".

    errors: as of `ValidationError.errors()` of a part of the body. body: what was validated, to tell the request's own
    fields from pydantic's parts of a place.
    """
    messages: dict[tuple[str | int, ...], list[str]] = {}
    for error in errors:
        loc = ("body", *_as_written(error["loc"], body, is_missing=error["type"] == "missing"))
        message = _message(error)
        told = messages.setdefault(loc, [])
        if message not in told:
            told.append(message)
    return [{"loc": list(loc), "msg": _joined(told)} for loc, told in messages.items()]


def request_errors(errors: Iterable[Mapping[str, Any]], body: object) -> list[dict[str, Any]]:
    """The same for `RequestValidationError.errors()`: of the body, the query, the path and the headers together."""
    found: list[dict[str, Any]] = []
    of_body: list[dict[str, Any]] = []
    for error in errors:
        place, *rest = error["loc"]
        if error["type"] == "json_invalid":
            found.append({"loc": ["body"], "msg": f"not valid JSON at character {rest[0]}: {error['ctx']['error']}"})
        elif place == "body":
            of_body.append({**error, "loc": rest})
        else:
            found.append({"loc": [place, *rest], "msg": _message(error)})
    return found + readable_errors(of_body, body)


def _as_written(loc: Sequence[str | int], body: object, *, is_missing: bool) -> list[str | int]:
    written: list[str | int] = []
    here = body
    for depth, part in enumerate(loc):
        in_request, below = _step_into(here, part)
        if in_request or (is_missing and depth == len(loc) - 1):
            written.append(part)
            here = below
    return written


def _step_into(value: object, part: str | int) -> tuple[bool, object]:
    """Whether the request has such a part there, and what it holds."""
    if isinstance(value, dict) and part in value:
        return True, value[part]
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return True, value[part]
    return False, value


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return _UNKNOWN_KEY
    if error["type"] == "missing":
        return "is missing"
    message = str(error["msg"])
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return message


def _joined(messages: list[str]) -> str:
    """The branches of a union each say `Input should be ...`; together: `Input should be A or B`."""
    start = "Input should be "
    if len(messages) > 1 and all(message.startswith(start) for message in messages):
        return start + " or ".join(message.removeprefix(start) for message in messages)
    return "; ".join(messages)
