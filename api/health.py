"""/healthz and /readyz: the only routes, beside the documentation, that ask for no key."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.openapi import problem_content
from api.problems import Problem
from api.state import State
from store import schema

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get(
    "/readyz",
    responses={503: {"description": "The database does not answer, or is not migrated.", "content": problem_content()}},
)
def readyz(state: State) -> Health:
    """The process can do its work: the database answers, and has the schema that this version needs, or a newer one
    that serves it.

    A broker that is away delays jobs and stops nothing.
    """
    with state.database.transaction() as session:
        try:
            schema.check(session.connection(), state.schema_version)
        except schema.Unfit as error:
            raise Problem(503, "unavailable", str(error)) from error
    return Health()
