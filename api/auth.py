"""Who asks: `Authorization: Bearer asym_...` becomes an Identity, or the request ends with 401.

From here on, the request's transactions see that team's rows only (store.tenancy). What an identity may see and do is
decided by the store, which filters every row by team and checks every role and scope.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.audit.trail import trail_of
from api.problems import Problem
from api.scopes import scope_of
from api.state import ApiState, State
from store import keys, tenancy
from store.access import Identity, require, require_admin, require_member
from store.keys import Refused

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key: `asym_...`")

_REASONS = {
    "malformed": "this is no API key: it is mistyped or cut off",
    "unknown": "this API key is not valid",
    "revoked": "this API key was revoked",
    "expired": "this API key has expired",
    "removed": "the member this API key belonged to was removed",
}


async def _caller(
    request: Request, state: State, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    if credentials is None:
        raise _unauthorized("send `Authorization: Bearer asym_...`", "Bearer")
    found = await run_in_threadpool(_examine, state, credentials.credentials)
    trail = trail_of(request.scope)
    if isinstance(found, Refused):
        trail.refused = found
        raise _unauthorized(_REASONS[found.reason], 'Bearer error="invalid_token"')
    trail.identity = found
    require(found, scope_of(request.method, request.url.path))
    # In this task and not in a thread, whose changes would be lost: the route's thread gets a copy of what is set here.
    tenancy.serve(found.team_id)
    return found


def _examine(state: ApiState, plain: str) -> Identity | Refused:
    with state.database.statements() as session:
        return keys.examine(session, plain, state.secret)


Caller = Annotated[Identity, Depends(_caller)]
"""Whoever has a valid key with the scope of the route."""


async def _member(identity: Caller) -> Identity:
    require_member(identity)
    return identity


async def _admin(identity: Caller) -> Identity:
    require_admin(identity)
    return identity


# The store refuses as well; here it is refused before a body of gigabytes is read.
Member = Annotated[Identity, Depends(_member)]
"""Whoever may create and stop things; others get 403."""
Admin = Annotated[Identity, Depends(_admin)]
"""Whoever may manage keys and members; others get 403."""


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
