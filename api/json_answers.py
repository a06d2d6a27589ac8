"""Answers written where they are made.

FastAPI takes what a plain route returns to a second thread to check it against the route's type, and writes it on the
event loop. The routes that are asked most write their answer themselves, of objects that are of that type already.
"""

from collections.abc import Mapping

from fastapi import Response
from pydantic import BaseModel


def json_answer(shown: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`shown` as the route's answer."""
    return Response(
        shown.__pydantic_serializer__.to_json(shown),
        status,
        dict(headers) if headers is not None else None,
        media_type="application/json",
    )
