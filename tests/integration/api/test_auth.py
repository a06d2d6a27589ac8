"""Keys: who is let in, and what each role may do."""

import re

import pytest
from fastapi.routing import APIRoute

from api.main import OPEN_PATHS
from store.access import Role


def routes(app):
    """(method, path with its parameters filled in) of every route."""
    for route in app.routes:
        for method in sorted(route.methods - {"HEAD", "OPTIONS"}):
            yield method, re.sub(r"\{\w+\}", "some_id", route.path)


def test_every_route_but_the_open_ones_refuses_who_has_no_key(app, anonymous):
    closed = [(method, path) for method, path in routes(app) if path not in OPEN_PATHS]
    assert len(closed) > 20
    assert len([route for route in app.routes if isinstance(route, APIRoute)]) == len(closed) + 3
    wrong = [{}, {"Authorization": "Bearer asym_wrong"}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}]
    for method, path in closed:
        for headers in wrong:
            response = anonymous.request(method, path, headers=headers)
            assert response.status_code == 401, (method, path, headers)
            assert response.headers["www-authenticate"].startswith("Bearer")
            expected = "application/json" if path.startswith("/v1/") else "application/problem+json"
            assert response.headers["content-type"] == expected, path


def test_the_open_routes_are_open(anonymous):
    for path in OPEN_PATHS - {"/sign-in"}:
        assert anonymous.get(path).status_code == 200, path
    assert anonymous.post("/sign-in", json={}).status_code == 422


def test_a_revoked_key_is_refused_at_once(caller):
    admin = caller(Role.ADMIN)
    made = admin.post("/keys", json={"name": "ci"}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    me = admin.http.get("/me", headers=headers).json()
    assert (
        me
        | {
            "key_id": made["id"],
            "key_name": "ci",
            "team_id": admin.key.identity.team_id,
            "role": "member",
        }
        == me
    )
    assert admin.delete(f"/keys/{made['id']}").status_code == 204
    assert admin.delete(f"/keys/{made['id']}").status_code == 204
    assert admin.http.get("/me", headers=headers).status_code == 401


def test_a_key_is_shown_once_and_listed_without_itself(caller):
    admin = caller(Role.ADMIN)
    made = admin.post("/keys", json={"name": "viewer", "role": "viewer"}).json()
    assert made["key"].startswith(made["prefix"])
    listed = admin.get("/keys").json()["data"]
    assert [key["id"] for key in listed] == [made["id"], admin.key.identity.key_id]
    assert made["key"] not in admin.get("/keys").text
    assert listed[1]["last_used_at"] is not None


def test_a_viewer_reads_and_writes_nothing(member, caller, make_job):
    job_id = make_job(member)["id"]
    viewer = caller(Role.VIEWER, member.key.identity.team_id)
    spec = viewer.get(f"/jobs/{job_id}").json()["spec"]
    for method, path, body in [
        ("POST", "/jobs", {"json": spec}),
        ("POST", "/datasets", {"files": {"file": ("a.jsonl", b'{"prompt": "1+1=", "answer": "2"}\n')}}),
        ("DELETE", f"/datasets/{spec['data']['train']}", {}),
        ("POST", f"/jobs/{job_id}/cancel", {}),
        ("POST", f"/jobs/{job_id}/pause", {}),
        ("POST", f"/jobs/{job_id}/resume", {}),
        ("POST", "/keys", {"json": {"name": "more", "role": "admin"}}),
        ("GET", "/keys", {}),
    ]:
        response = viewer.request(method, path, **body)
        assert response.status_code == 403, (method, path)
        assert response.json()["type"] == "urn:asym:problem:forbidden"
    assert viewer.get(f"/jobs/{job_id}").json()["status"] == "queued"
    assert len(viewer.get("/jobs").json()["data"]) == 1


def test_only_admins_manage_keys(member, caller):
    assert member.post("/keys", json={"name": "more", "role": "admin"}).status_code == 403
    stranger = caller(Role.ADMIN)
    assert stranger.delete(f"/keys/{member.key.identity.key_id}").status_code == 404
    assert member.get("/me").status_code == 200


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x", "role": "god"}, {"name": "x", "team_id": "team_1"}])
def test_a_bad_key_request_is_refused(caller, body):
    admin = caller(Role.ADMIN)
    response = admin.post("/keys", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"][0] == "body"


def test_another_teams_objects_are_not_found(member, caller, make_job):
    job = make_job(member)
    dataset_id = job["spec"]["data"]["train"]
    stranger = caller(Role.ADMIN)
    for method, path in [
        ("GET", f"/jobs/{job['id']}"),
        ("POST", f"/jobs/{job['id']}/cancel"),
        ("POST", f"/jobs/{job['id']}/pause"),
        ("POST", f"/jobs/{job['id']}/resume"),
        ("GET", f"/jobs/{job['id']}/metrics"),
        ("GET", f"/jobs/{job['id']}/events"),
        ("GET", f"/jobs/{job['id']}/rollouts"),
        ("GET", f"/jobs/{job['id']}/logs"),
        ("GET", f"/jobs/{job['id']}/checkpoints"),
        ("GET", f"/compare?jobs={job['id']}"),
        ("GET", f"/datasets/{dataset_id}"),
        ("GET", f"/datasets/{dataset_id}/rows"),
        ("DELETE", f"/datasets/{dataset_id}"),
    ]:
        response = stranger.request(method, path)
        assert response.status_code == 404, (method, path)
        assert response.headers["content-type"] == "application/problem+json"
    streamed = stranger.get(f"/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"})
    assert streamed.status_code == 404
    for path in ("/jobs", "/datasets", "/queue"):
        assert stranger.get(path).json()["data"] == []
    assert member.get(f"/jobs/{job['id']}").json()["status"] == "queued"
