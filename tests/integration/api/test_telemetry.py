"""GET /metrics: what Prometheus is told, and who may ask."""

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from api.main import create_app
from store import workers

LOCAL = ("127.0.0.1", 50_000)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def from_address(app, anonymous):
    """from_address(address, port): requests from there; `anonymous` runs the application, and its event loop."""

    def make(*client):
        found = TestClient(app, client=client)
        found.portal = anonymous.portal
        return found

    return make


@pytest.fixture
def local(from_address):
    return from_address(*LOCAL)


def test_requests_jobs_queue_workers_and_streams_are_counted(local, member, make_job, database):
    with database.transaction() as session:
        workers.register(session, name="a-secret-name", host="h", pid=1, gpus=0, cpu_slots=1, version="0")
    job = make_job(member, name="nobodys-business")
    member.get(f"/jobs/{job['id']}")
    member.get("/jobs/job_none")
    member.get("/nowhere/at/all")
    response = local.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = samples(response.text)

    def requests(method, route, status):
        return found["asym_http_requests_total", ("method", method), ("route", route), ("status", status)]

    assert requests("POST", "/jobs", "201") == 1
    assert requests("GET", "/jobs/{job_id}", "200") == 1
    assert requests("GET", "/jobs/{job_id}", "404") == 1
    assert requests("(any)", "(none)", "404") == 1
    assert found["asym_http_request_seconds_count", ("method", "POST"), ("route", "/jobs")] == 1
    assert found["asym_jobs", ("status", "queued")] == 1
    assert found["asym_jobs", ("status", "running")] == 0
    assert found["asym_queue_depth",] == 1
    assert found["asym_queue_oldest_seconds",] > 0
    assert found["asym_workers", ("state", "alive")] == 1
    assert found["asym_streams_open",] == 0
    for name in (job["id"], "nobodys-business", "additions", "a-secret-name", member.key.identity.team_id, "team "):
        assert name not in response.text


def test_without_a_token_only_this_machine_may_ask(local, from_address, member):
    assert local.get("/metrics").status_code == 200
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}):
        assert local.get("/metrics", headers=headers).status_code == 401, headers
    for address in ("10.0.0.1", "testclient", "::ffff:10.0.0.1"):
        assert from_address(address, 1).get("/metrics").status_code == 401, address
    assert member.get("/metrics").status_code == 401  # no team's key opens it


def test_with_a_token_only_the_token_opens_it(settings):
    app = create_app(settings.model_copy(update={"metrics_token": SecretStr("s3cret")}))
    with TestClient(app, client=LOCAL) as http:
        assert http.get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_code == 200
        for headers in ({}, {"Authorization": "Bearer s3creT"}, {"Authorization": "Basic s3cret"}):
            refused = http.get("/metrics", headers=headers)
            assert refused.status_code == 401
            assert refused.json()["type"] == "urn:asym:problem:unauthorized"


def test_a_failure_is_counted_as_one(app, make_key, monkeypatch):
    from store import jobs

    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(jobs, "get", broken)
    monkeypatch.setattr("api.jobs.routes.job_lists.version", broken)
    with TestClient(app, client=LOCAL, raise_server_exceptions=False) as http:
        answer = http.get("/jobs/job_1", headers={"Authorization": f"Bearer {make_key().plain}"})
        assert answer.status_code == 500
        found = samples(http.get("/metrics").text)
    assert found["asym_http_requests_total", ("method", "GET"), ("route", "/jobs/{job_id}"), ("status", "500")] == 1


def test_a_real_server_tells_prometheus_on_this_machine(start_server):
    assert b"asym_jobs" in httpx.get(f"{start_server()}/metrics").content
