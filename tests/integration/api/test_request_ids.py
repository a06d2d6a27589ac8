"""X-Request-ID: taken over or made, given back with every answer, in problems, and in the log."""

import json

import httpx
import pytest
from fastapi.testclient import TestClient

from store import keys


@pytest.mark.parametrize("given", ["a-b_c.1:2", "x" * 128])
def test_a_senders_id_is_kept(member, given):
    answer = member.get("/jobs/job_none", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given
    assert answer.json()["request_id"] == given
    assert member.get("/jobs", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "a\tb", "ä".encode()])
def test_what_is_none_is_replaced(anonymous, given):
    answer = anonymous.get("/healthz", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"].startswith("req_")


def test_every_kind_of_refusal_has_one(anonymous, member):
    for answer in (
        anonymous.get("/jobs"),
        anonymous.get("/nothing"),
        member.post("/jobs", content=b"{"),
        member.post("/healthz"),
    ):
        assert answer.status_code >= 400
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert member.get("/v1/fine_tuning/jobs/ftjob-x").headers["X-Request-ID"]


def test_a_bug_is_told_by_its_id_alone(app, make_key, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("store.sweeps.get", broken)
    with TestClient(app, raise_server_exceptions=False) as http:
        headers = {"Authorization": f"Bearer {make_key().plain}", "X-Request-ID": "mine"}
        answer = http.get("/sweeps/sweep_1", headers=headers)
    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "mine"
    assert "a bug" not in answer.text


def test_a_server_logs_objects_with_the_requests_id(start_server, capfd):
    nowhere = "postgresql://u:canary-password@127.0.0.1:9/none"
    url = start_server(ready=False, ASYM_LOG_FORMAT="json", ASYM_DATABASE_URL=nowhere)
    headers = {"Authorization": f"Bearer {keys.new_key()}", "X-Request-ID": "mine"}
    answer = httpx.get(f"{url}/jobs", headers=headers)
    assert (answer.status_code, answer.json()["request_id"]) == (503, "mine")
    start_server.stop()
    lines = capfd.readouterr().err.splitlines()
    said = [json.loads(line) for line in lines if not line.startswith("embedded: ")]
    assert said
    assert all({"time", "level", "logger", "message"} <= each.keys() for each in said)
    (about,) = [each for each in said if each.get("request") == "mine"]
    assert about["message"].startswith("GET /jobs: the database does not answer")
    assert "canary" not in "".join(lines)
