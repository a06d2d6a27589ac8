"""POST /sign-in: people sign in at their organisation's identity provider instead of carrying keys about."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.audit.trail import trail_of
from api.keys.routes import KEY_EXAMPLE, KeyOut, NewKey
from api.openapi import example, problem_content
from api.problems import Problem
from api.sign_in.id_tokens import NotVouchedForError, ProviderAwayError
from api.state import State
from store import tenancy
from store.access import Identity, Role
from store.keys import Refused
from store.sign_in import KEY_NAME, Membership, make_key, memberships

router = APIRouter(tags=["keys"])

_KEY: dict[str, Any] = {**KEY_EXAMPLE, "name": KEY_NAME, "key": "asym_7k2m9x..."}
_TEAM = {"id": "team_01jz8xm1b2c3d4e5f6g7h8j9kn", "name": "reasoning", "role": "member"}


def _why(description: str) -> dict[str, Any]:
    return {"description": description, "content": problem_content()}


class SignIn(BaseModel):
    model_config = example({"id_token": "eyJhbGciOi..."}, extra="forbid")

    id_token: Annotated[str, Field(min_length=1, max_length=16_384)]
    """An OpenID Connect ID token of the platform's identity provider, issued to the platform's client."""
    team_id: Annotated[str, Field(max_length=100)] | None = None
    """Which team to sign in to; needed by those who belong to several."""


class TeamOfMine(BaseModel):
    """A team that one belongs to."""

    id: str
    name: str
    role: Role


class SignedIn(BaseModel):
    """The key of whoever signed in; without one, the teams to choose from."""

    model_config = example({"teams": [_TEAM], "key": _KEY})

    teams: list[TeamOfMine]
    key: NewKey | None
    """Null when there are several teams and the request names none."""


@router.post(
    "/sign-in",
    responses={
        401: _why("The ID token proves nothing, or nobody signs in under its name."),
        404: _why("Signing in is not set up here (ASYM_OIDC_ISSUER, ASYM_OIDC_CLIENT_ID)."),
        413: _why("Too large."),
        415: _why("Another media type than the one asked for."),
        422: _why("A value is not acceptable; `errors` names the field."),
        429: _why("Too many requests, or too many wrong tokens, from this address."),
        503: _why("The database or the identity provider does not answer."),
    },
)
def sign_in(wanted: SignIn, request: Request, response: Response, state: State) -> SignedIn:
    """A key for a person whom the identity provider vouches for; it ends by itself, after twelve hours unless set."""
    if state.id_tokens is None:
        raise Problem(404, "not_found", "signing in by an identity provider is not set up here: use an API key")
    response.headers["Cache-Control"] = "no-store"
    trail = trail_of(request.scope)
    try:
        login = state.id_tokens.login_of(wanted.id_token)
    except ProviderAwayError as error:
        raise Problem(503, "unavailable", str(error)) from error
    except NotVouchedForError as error:
        trail.refused = Refused("unknown")
        raise _unauthorized(str(error)) from error
    with state.database.statements() as session:
        mine = memberships(session, login)
    if not mine:
        raise _unauthorized(f"nobody signs in as {login}: ask an admin of your team to add this login")
    teams = [TeamOfMine(id=each.team_id, name=each.team_name, role=each.role) for each in mine]
    chosen = _chosen(mine, wanted.team_id)
    if chosen is None:
        return SignedIn(teams=teams, key=None)
    with tenancy.serving(chosen.team_id), state.database.transaction() as session:
        key, plain = make_key(session, chosen, state.settings.oidc_session, state.secret)
        made = NewKey(**KeyOut.of(key).model_dump(), key=plain)
    trail.identity = Identity(key.id, chosen.team_id, chosen.role, chosen.member_id)
    return SignedIn(teams=teams, key=made)


def _chosen(mine: list[Membership], team_id: str | None) -> Membership | None:
    if team_id is None:
        return mine[0] if len(mine) == 1 else None
    for each in mine:
        if each.team_id == team_id:
            return each
    raise Problem(404, "not_found", f"no team {team_id} of yours")


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
