"""Secrets stay where they are: words that must not get out, sought in all that a platform says, stores and answers."""

import logging

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text

from api.main import create_app
from store import keys, logs
from store.access import Role
from store.models import Base
from store.secret import server_secret
from store.status import JobStatus

TOLD = "environment.json"
"""Where the scripted trainer writes down what it was given, for other tests."""

CANARIES = ("canary-database", "canary-broker", "canary-secret-0123456789", "canary-verifier", "canary-signing")


@pytest.fixture
def settings(settings, database_url):
    """Of every secret that there is, one that can be told; the broker does not answer."""
    return settings.model_copy(
        update={
            "database_url": SecretStr(database_url.replace("postgres@", "postgres:canary-database@")),
            "broker_url": SecretStr("redis://:canary-broker@127.0.0.1:9/0"),
            "secret": SecretStr("canary-secret-0123456789"),
            "http_verifiers": {"judge": SecretStr("http://u:canary-verifier@169.254.169.254/score")},
            "outgoing_secret": SecretStr("canary-signing"),
            "webhook_hosts": ["127.0.0.1"],
        }
    )


def test_nothing_that_is_said_stored_or_answered_holds_a_secret(
    settings, database, submit, start_worker, wait_for_status, make_dataset, make_spec, artifacts, identity, caplog
):
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logs.JsonLines())
    with database.transaction() as session:
        _, plain = keys.create(session, identity.team_id, "a", Role.ADMIN, secret=server_secret(settings))
    answers = [repr(settings), str(settings), settings.model_dump_json()]
    shown_keys = [plain]
    with TestClient(create_app(settings), raise_server_exceptions=False) as http:

        def ask(method, path, key=plain, **more):
            answer = http.request(method, path, headers={"Authorization": f"Bearer {key}"}, **more)
            answers.append(f"{answer.status_code} {answer.headers} {answer.text}")
            return answer

        made = ask("POST", "/keys", json={"name": "b"}).json()
        rotated = ask("POST", f"/keys/{made['id']}/rotate").json()
        shown_keys += [made["key"], rotated["key"]]
        # Nobody listens there: what is to be told fails, and says so.
        hook = ask("POST", "/webhooks", json={"name": "h", "url": "http://127.0.0.1:9/"}).json()
        changed = ask("POST", f"/webhooks/{hook['id']}/rotate", json={"grace_seconds": 60}).json()
        shown_keys += [hook["secret"], changed["secret"]]
        answers[-4:] = []  # where a key or a secret is shown, once
        ask("POST", f"/webhooks/{hook['id']}/test")
        for key in (made["key"], plain[:-1], keys.new_key()):
            assert ask("GET", "/me", key).status_code == 401
        judged = {"reward": {"kind": "http:judge"}, "algorithm": {"preset": "grpo"}}
        spec = make_spec(make_dataset(identity).id, **judged).model_dump(mode="json")
        assert ask("POST", "/jobs", json=spec | {"name": "user-error"}).status_code == 201
        spec["reward"]["kind"] = "http:nobody"
        assert ask("POST", "/jobs", json=spec).status_code == 422
        assert ask("POST", "/jobs", content=f'{{"name": "{plain}'.encode()).status_code == 422
        hook_paths = ("/webhooks", f"/webhooks/{hook['id']}", f"/webhooks/{hook['id']}/deliveries")
        for path in (
            "/me",
            "/keys",
            "/audit",
            "/models",
            "/workers",
            "/queue",
            "/openapi.json",
            "/nothing",
            *hook_paths,
        ):
            ask("GET", path)
        jobs_made = [each["id"] for each in ask("GET", "/jobs").json()["data"]]
        start_worker()
        ended = submit("plain")
        wait_for_status(jobs_made[0], JobStatus.FAILED)
        wait_for_status(ended, JobStatus.SUCCEEDED)
        for job_id in (*jobs_made, ended):
            for part in ("", "/events", "/logs", "/metrics", "/rollouts", "/checkpoints"):
                ask("GET", f"/jobs/{job_id}{part}")
    away = settings.model_copy(update={"database_url": SecretStr("postgresql://u:canary-database@127.0.0.1:9/none")})
    with TestClient(create_app(away), raise_server_exceptions=False) as http:
        answer = http.get("/me", headers={"Authorization": f"Bearer {plain}"})
        assert answer.status_code == 503
        answers.append(answer.text)
    every_row = "SELECT to_jsonb(t)::text FROM %s t"
    with database.transaction() as session:
        rows = [row for table in Base.metadata.tables for row in session.scalars(text(every_row % table))]
    files = [
        path.read_text(errors="replace") for path in artifacts.root.rglob("*") if path.is_file() and path.name != TOLD
    ]
    assert len(answers) > 30
    assert len(rows) > 20
    assert len(caplog.records) > 10
    assert any('"job": ' in line and '"attempt": 1' in line for line in caplog.text.splitlines())
    assert files
    for canary in (*CANARIES, *shown_keys, *(key.removeprefix("asym_").removeprefix("whsec_") for key in shown_keys)):
        for where, texts in (("answer", answers), ("row", rows), ("file", files), ("log", [caplog.text])):
            found = [each[:300] for each in texts if canary in each]
            assert found == [], f"a {where} holds {canary}"
