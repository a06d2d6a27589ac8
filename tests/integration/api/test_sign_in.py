"""POST /sign-in: whose word is taken, for whom, and what comes of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from joserfc.jwk import OctKey, RSAKey

from api.main import create_app
from api.sign_in import id_tokens
from store import keys, members
from store.access import Role
from store.models import Member
from tests.identity_provider import CLIENT_ID, IdentityProvider
from tests.integration.api.conftest import bearer


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.close()


@pytest.fixture
def http(settings, provider) -> Iterator[TestClient]:
    """The running application with an identity provider."""
    app = create_app(settings.model_copy(update={"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID}))
    with TestClient(app) as client:
        yield client


@pytest.fixture
def team(database):
    """team(name, role=MEMBER, login=...): a team with a member; the member."""

    def make(name: str, role: Role = Role.MEMBER, login: str = "ada@example.com") -> Any:
        with database.transaction() as session:
            return members.create(session, keys.create_team(session, name).id, "ada", role, login)

    return make


def sign_in(http: TestClient, token: str, **more: Any) -> Any:
    return http.post("/sign-in", json={"id_token": token, **more})


def test_a_member_gets_a_key_of_the_own_role_that_ends(http, provider, team):
    ada = team("one")
    answer = sign_in(http, provider.token())
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    key = answer.json()["key"]
    assert (key["member_id"], key["role"], key["scopes"]) == (ada.id, "member", None)
    me = http.get("/me", headers=bearer(key["key"])).json()
    assert (me["team_name"], me["member_id"], me["expires_at"]) == ("one", ada.id, key["expires_at"])
    assert http.get("/audit", headers=bearer(key["key"])).status_code == 403


def test_signing_in_is_in_the_audit_log_of_the_team(http, provider, team):
    team("one", Role.ADMIN)
    key = sign_in(http, provider.token()).json()["key"]
    (entry,) = http.get("/audit", headers=bearer(key["key"])).json()["data"]
    assert (entry["action"], entry["key_id"], entry["status"]) == ("sign_in", key["id"], 200)


def test_whoever_is_of_several_teams_chooses_one(http, provider, team):
    first, second = team("first"), team("second", Role.VIEWER)
    answer = sign_in(http, provider.token()).json()
    assert answer["key"] is None
    assert [(each["id"], each["name"], each["role"]) for each in answer["teams"]] == [
        (first.team_id, "first", "member"),
        (second.team_id, "second", "viewer"),
    ]
    key = sign_in(http, provider.token(), team_id=second.team_id).json()["key"]
    assert (key["member_id"], key["role"]) == (second.id, "viewer")


def test_a_team_that_one_is_not_in_is_not_there(http, provider, team):
    team("one")
    stranger = team("strangers", login="eve@example.com")
    assert sign_in(http, provider.token(), team_id=stranger.team_id).status_code == 404


def test_a_removed_member_and_one_without_a_login_do_not_get_in(http, provider, team, database):
    ada = team("one", Role.ADMIN)
    with database.transaction() as session:
        session.get_one(Member, ada.id).login = None
    answer = sign_in(http, provider.token())
    assert answer.status_code == 401
    assert "nobody signs in as Ada@Example.com" in answer.json()["detail"]
    with database.transaction() as session:
        member = session.get_one(Member, ada.id)
        member.login, member.removed_at = "ada@example.com", member.created_at
    assert sign_in(http, provider.token()).status_code == 401


FORGED = RSAKey.generate_key(2048, {"kid": "forged"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iss": "https://elsewhere.example"}, "iss"),
        ({"aud": "another-client"}, "aud"),
        ({"aud": [CLIENT_ID, "another"], "azp": "another"}, "another client"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": 4_000_000_000}, "in the future"),
        ({"sub": None}, "sub"),
        ({"email": None}, "no claim 'email'"),
        ({"email": ["ada@example.com"]}, "no claim 'email'"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "false"}, "not verified"),
    ],
)
def test_a_token_that_is_not_for_us_is_refused(http, provider, team, changed, said):
    team("one")
    answer = sign_in(http, provider.token(**changed))
    assert answer.status_code == 401, answer.text
    assert said in answer.json()["detail"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_that_the_provider_did_not_sign_is_refused(http, provider, team):
    team("one")
    good = provider.token()
    head, body, signature = good.split(".")
    secret = OctKey.import_key(CLIENT_ID)
    for token in (
        provider.token(key=FORGED),
        provider.token(key=secret, header={"alg": "HS256"}),
        f"{head}.{body}.{signature[:-6]}AAAAAA",
        f"eyJhbGciOiJub25lIn0.{body}.",
        f"{head}.{body}",
        "x",
        "\x00",
    ):
        assert sign_in(http, token).status_code == 401, token
    assert sign_in(http, good).status_code == 200


def test_a_new_key_of_the_provider_is_fetched_and_wrong_tokens_do_not_make_us_ask_for_ever(
    http, provider, team, monkeypatch
):
    team("one")
    assert sign_in(http, provider.token()).status_code == 200
    asked = provider.key_requests
    for _ in range(3):
        assert sign_in(http, provider.token(key=FORGED)).status_code == 401
    assert provider.key_requests == asked
    provider.rotate()
    assert sign_in(http, provider.token()).status_code == 401
    monkeypatch.setattr(id_tokens, "AGAIN_SECONDS", 0.0)
    assert sign_in(http, provider.token()).status_code == 200
    assert provider.key_requests == asked + 1


def test_a_provider_that_is_away_is_no_fault_of_the_token(settings, provider, free_port, team):
    team("one")
    away = {"oidc_issuer": f"http://127.0.0.1:{free_port()}", "oidc_client_id": CLIENT_ID}
    with TestClient(create_app(settings.model_copy(update=away))) as http:
        answer = sign_in(http, provider.token())
    assert answer.status_code == 503
    assert "identity provider" in answer.json()["detail"]


def test_without_a_provider_there_is_no_signing_in(anonymous, provider):
    answer = sign_in(anonymous, provider.token())
    assert answer.status_code == 404
    assert "not set up" in answer.json()["detail"]


def test_wrong_tokens_count_as_wrong_keys(settings, provider):
    few = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "wrong_keys_per_minute": 3}
    with TestClient(create_app(settings.model_copy(update=few)), client=("192.0.2.77", 1)) as http:
        statuses = [sign_in(http, "x").status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]


def test_admins_give_logins_and_no_login_is_given_twice_in_a_team(caller):
    admin = caller(Role.ADMIN)
    ada = admin.post("/members", json={"name": "ada", "login": " Ada@Example.com "}).json()
    assert ada["login"] == "ada@example.com"
    taken = admin.post("/members", json={"name": "also ada", "login": "ADA@example.com"})
    assert taken.status_code == 409
    assert ada["id"] in taken.json()["detail"]
    bob = admin.post("/members", json={"name": "bob"}).json()
    assert bob["login"] is None
    assert admin.request("PATCH", f"/members/{bob['id']}", json={"login": "ada@example.com"}).status_code == 409
    assert admin.request("PATCH", f"/members/{ada['id']}", json={"login": ""}).json()["login"] is None
    assert admin.request("PATCH", f"/members/{bob['id']}", json={"login": "ada@example.com"}).status_code == 200
    # Another team may know the same person.
    assert caller(Role.ADMIN).post("/members", json={"name": "ada", "login": "ada@example.com"}).status_code == 201
