"""Members, what keys may do, how they end, and what is noted of all that."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from store import keys
from store.access import Role
from store.secret import server_secret


@pytest.fixture
def admin(caller):
    return caller(Role.ADMIN)


@pytest.fixture
def status(anonymous):
    """status(plain, method="GET", path="/me"): what a key is answered."""

    def ask(plain, method="GET", path="/me", **more):
        return anonymous.request(method, path, headers={"Authorization": f"Bearer {plain}"}, **more).status_code

    return ask


def make_key(admin, **wanted):
    response = admin.post("/keys", json={"name": "k", **wanted})
    assert response.status_code == 201, response.text
    return response.json()


def test_a_member_its_key_and_their_end(admin, status):
    ada = admin.post("/members", json={"name": "ada", "role": "member"})
    assert (ada.status_code, ada.headers["location"]) == (201, f"/members/{ada.json()['id']}")
    ada = ada.json()
    key = make_key(admin, member_id=ada["id"], role="member")
    assert key["member_id"] == ada["id"]
    assert status(key["key"]) == 200
    listed = admin.get("/members").json()["data"]
    assert [each["id"] for each in listed] == [ada["id"], admin.key.identity.member_id]
    assert admin.delete(f"/members/{ada['id']}").status_code == 204
    assert status(key["key"]) == 401
    assert admin.delete(f"/members/{ada['id']}").status_code == 404
    assert admin.post("/keys", json={"name": "k", "member_id": ada["id"]}).status_code == 404
    assert admin.post(f"/keys/{key['id']}/rotate").status_code == 404
    assert [each["id"] for each in admin.get("/members").json()["data"]] == [admin.key.identity.member_id]


def test_a_lower_role_holds_for_every_key_at_once_and_a_higher_one_for_none(admin, anonymous):
    ada = admin.post("/members", json={"name": "ada", "role": "member"}).json()
    key = make_key(admin, member_id=ada["id"], role="member")["key"]

    def role():
        return anonymous.get("/me", headers={"Authorization": f"Bearer {key}"}).json()["role"]

    assert role() == "member"
    change = f"/members/{ada['id']}"
    assert admin.request("PATCH", change, json={"role": "viewer"}).json()["role"] == "viewer"
    assert role() == "viewer"
    admin.request("PATCH", change, json={"role": "admin", "name": "Ada"})
    assert role() == "member", "a key does not grow"
    refused = admin.post("/keys", json={"name": "k", "member_id": ada["id"], "role": "admin"})
    assert refused.status_code == 201
    admin.request("PATCH", change, json={"role": "viewer"})
    refused = admin.post("/keys", json={"name": "k", "member_id": ada["id"], "role": "member"})
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["body", "role"])
    assert admin.request("PATCH", change, json={}).status_code == 422


def test_the_last_admin_stays(admin, caller):
    me = f"/members/{admin.key.identity.member_id}"
    assert admin.delete(me).status_code == 409
    assert admin.request("PATCH", me, json={"role": "member"}).status_code == 409
    other = caller(Role.ADMIN, admin.key.identity.team_id)
    assert other.delete(me).status_code == 204
    assert admin.get("/me").status_code == 401
    assert other.delete(f"/members/{other.key.identity.member_id}").status_code == 409


def test_scopes_narrow_a_key_and_never_widen_one(admin, status, make_spec, make_dataset):
    dataset = make_dataset(admin.key.identity)
    spec = make_spec(dataset.id).model_dump(mode="json")
    file = {"file": ("a.jsonl", b'{"prompt": "1+1=", "answer": "2"}\n')}
    reader = make_key(admin, role="member", scopes=["read"])["key"]
    submitter = make_key(admin, role="member", scopes=["read", "jobs:write"])["key"]
    uploader = make_key(admin, role="member", scopes=["datasets:write"])["key"]
    assert [status(key, "GET", "/jobs") for key in (reader, submitter, uploader)] == [200, 200, 403]
    assert [status(key, "POST", "/jobs", json=spec) for key in (reader, submitter, uploader)] == [403, 201, 403]
    assert [status(key, "POST", "/jobs/validate", json=spec) for key in (reader, uploader)] == [200, 403]
    assert [status(key, "POST", "/datasets", files=file) for key in (reader, submitter, uploader)] == [403, 403, 201]
    wide = admin.post("/keys", json={"name": "k", "role": "viewer", "scopes": ["jobs:write"]})
    assert (wide.status_code, wide.json()["errors"][0]["loc"]) == (422, ["body", "scopes"])
    for bad in ([], ["everything"]):
        assert admin.post("/keys", json={"name": "k", "scopes": bad}).status_code == 422


def test_a_narrow_admin_key_gives_and_renews_nothing_that_it_lacks(admin, anonymous):
    keeper = make_key(admin, role="admin", scopes=["keys:manage"])
    headers = {"Authorization": f"Bearer {keeper['key']}"}
    for wanted in ({"role": "admin"}, {"role": "member"}, {"role": "admin", "scopes": ["members:manage"]}):
        refused = anonymous.post("/keys", headers=headers, json={"name": "k", **wanted})
        assert refused.status_code == 403, wanted
        assert "cannot give" in refused.json()["detail"]
    own = admin.key.identity.key_id
    assert anonymous.post(f"/keys/{own}/rotate", headers=headers).status_code == 403
    assert anonymous.post("/members", headers=headers, json={"name": "m"}).status_code == 403
    assert anonymous.get("/audit", headers=headers).status_code == 403
    alike = anonymous.post("/keys", headers=headers, json={"name": "k", "role": "admin", "scopes": ["keys:manage"]})
    assert alike.status_code == 201
    assert anonymous.post(f"/keys/{keeper['id']}/rotate", headers=headers).status_code == 201


def test_a_key_ends_when_it_was_to_end(admin, status, database):
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    key = make_key(admin, expires_at=soon)
    assert status(key["key"]) == 200
    with database.transaction() as session:
        session.execute(text("UPDATE api_keys SET expires_at = clock_timestamp() WHERE id = :id"), {"id": key["id"]})
    assert status(key["key"]) == 401
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    for bad in (past, "2030-01-01T00:00:00", "tomorrow"):
        refused = admin.post("/keys", json={"name": "k", "expires_at": bad})
        assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["body", "expires_at"])


def test_rotation_at_once(admin, status):
    old = make_key(admin, role="member", scopes=["read"])
    answer = admin.post(f"/keys/{old['id']}/rotate")
    new = answer.json()
    assert (answer.status_code, new["rotated_from"], new["scopes"]) == (201, old["id"], ["read"])
    assert {name: new[name] for name in ("name", "role", "member_id")} == {
        name: old[name] for name in ("name", "role", "member_id")
    }
    assert (status(old["key"]), status(new["key"])) == (401, 200)
    assert admin.post(f"/keys/{old['id']}/rotate").status_code == 409


def test_rotation_with_a_grace(admin, status, database):
    soon = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    old = make_key(admin, expires_at=soon)
    new = admin.post(f"/keys/{old['id']}/rotate", json={"grace_seconds": 3600}).json()
    assert (status(old["key"]), status(new["key"])) == (200, 200)
    with database.transaction() as session:
        left = session.scalars(
            text("SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM api_keys WHERE id = :id"),
            {"id": old["id"]},
        ).one()
        session.execute(text("UPDATE api_keys SET expires_at = clock_timestamp() WHERE id = :id"), {"id": old["id"]})
    assert 3500 < left <= 3600
    assert datetime.fromisoformat(new["expires_at"]) > datetime.now(UTC) + timedelta(days=29)
    assert (status(old["key"]), status(new["key"])) == (401, 200)
    assert admin.post(f"/keys/{new['id']}/rotate", json={"grace_seconds": 10**9}).status_code == 422


def test_a_key_of_before_works_and_its_hash_is_replaced(admin, status, database, settings):
    """As the version before made them: 52 characters, a plain SHA-256."""
    import hashlib

    plain = "asym_" + "a2" * 26
    with database.transaction() as session:
        key, _ = keys.create(session, admin.key.identity.team_id, "old", Role.MEMBER)
        key.hash = hashlib.sha256(plain.encode()).hexdigest()

    def kept():
        with database.transaction() as session:
            found = text("SELECT hash, secret_id FROM api_keys WHERE id = :id")
            return tuple(session.execute(found, {"id": key.id}).one())

    assert kept()[1] is None
    assert status(plain) == 200
    secret = server_secret(settings)
    assert kept() == (secret.hmac("api key", plain), secret.id)
    assert status(plain) == 200


def test_a_key_made_with_another_secret_opens_nothing(database, make_key, settings):
    identity = make_key(Role.ADMIN).identity
    with database.transaction() as session:
        mine, other = server_secret(settings), server_secret(settings.model_copy(update={"home": settings.home / "b"}))
        _, plain = keys.create(session, identity.team_id, "k", Role.MEMBER, secret=other)
        assert keys.authenticate(session, plain, mine) is None
        assert keys.authenticate(session, plain, other) is not None
        assert keys.made_with_other_secrets(session, mine) == 1
        assert keys.made_with_other_secrets(session, other) == 0


def test_writes_and_refused_keys_are_noted(admin, caller, status, make_job):
    member = caller(Role.MEMBER, admin.key.identity.team_id)
    viewer = caller(Role.VIEWER, admin.key.identity.team_id)
    job = make_job(member)
    viewer.post(f"/jobs/{job['id']}/cancel")
    member.post("/jobs", json={})
    admin.delete(f"/keys/{viewer.key.identity.key_id}")
    viewer.get("/jobs")
    member.get("/jobs")
    status("asym_" + "x" * 59)
    entries = admin.get("/audit").json()["data"]
    told = [(e["action"], e["object"], e["status"], e["key_id"], e["reason"]) for e in reversed(entries)]
    ids = [who.key.identity.key_id for who in (admin, member, viewer)]
    assert told == [
        ("create_job", job["id"], 201, ids[1], None),
        ("cancel_job", job["id"], 403, ids[2], None),
        ("create_job", "/jobs", 422, ids[1], None),
        ("revoke_key", ids[2], 204, ids[0], None),
        ("authenticate", "/jobs", 401, ids[2], "revoked"),
    ]
    assert {e["address"] for e in entries} == {"testclient"}
    assert {e["member_id"] for e in entries} == {who.key.identity.member_id for who in (admin, member, viewer)}
    first = admin.get("/audit?limit=2").json()
    rest = admin.get(f"/audit?limit=10&after={first['next']}").json()
    assert first["data"] + rest["data"] == entries
    assert (first["has_more"], rest["has_more"]) == (True, False)
    stranger = caller(Role.ADMIN)
    assert stranger.get("/audit").json()["data"] == []
    assert member.get("/audit").status_code == 403


def test_an_unknown_key_is_noted_for_the_operator_only(admin, status, database):
    unknown = keys.new_key()
    assert status(unknown) == 401
    assert admin.get("/audit").json()["data"] == []
    with database.transaction() as session:
        (row,) = session.execute(text("SELECT team_id, reason, row_to_json(audit_log)::text FROM audit_log")).all()
    assert row[:2] == (None, "unknown")
    assert unknown not in row[2]
    assert unknown.removeprefix("asym_") not in row[2]
