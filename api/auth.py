"""Who asks: `Authorization: Bearer asym_...` becomes an Identity, or the request ends with 401.

What an identity may see and do is decided by the store, which filters every row by team and checks every role.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.problems import Problem
from api.state import State
from store import keys
from store.access import Identity, require_admin, require_member

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key: `asym_...`")


def _caller(state: State, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Identity:
    if credentials is None:
        raise _unauthorized("send `Authorization: Bearer asym_...`", "Bearer")
    with state.database.transaction() as session:
        identity = keys.authenticate(session, credentials.credentials)
    if identity is None:
        raise _unauthorized("this API key is not valid, or was revoked", 'Bearer error="invalid_token"')
    return identity


Caller = Annotated[Identity, Depends(_caller)]
"""Whoever has a valid key."""


def _member(identity: Caller) -> Identity:
    require_member(identity)
    return identity


def _admin(identity: Caller) -> Identity:
    require_admin(identity)
    return identity


# The store refuses as well; here it is refused before a body of gigabytes is read.
Member = Annotated[Identity, Depends(_member)]
"""Whoever may create and stop things; others get 403."""
Admin = Annotated[Identity, Depends(_admin)]
"""Whoever may manage keys; others get 403."""


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
