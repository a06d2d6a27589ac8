"""The API as a process: broken uploads, databases that go away, jobs whose worker died."""

import hashlib
import json
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from store import keys, leases, schema, workers
from store.access import Role
from store.database import Database

ROOT = Path(__file__).parents[3]
SHARED_SIZE = 30 * 2**20


def test_an_upload_broken_off_midway_leaves_nothing(start_server, member, settings, stored_files, wait_until):
    host, port = re.fullmatch(r"http://(.+):(\d+)", start_server()).groups()
    head = (
        f"POST /datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {member.key.plain}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    line = b'{"question": "1+1=", "answer": "2"}\n'
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + line * 100_000)
        # It is being received into a file of its own ...
        wait_until(lambda: [path for path in stored_files() if path.stat().st_size > 2**20])
    # ... which goes with the connection.
    wait_until(lambda: stored_files() == [])
    assert member.get("/datasets").json()["data"] == []


def test_a_refusal_reaches_a_client_that_is_still_sending(start_server, settings):
    url = start_server(ASYM_MAX_UPLOAD_BYTES="1000000")
    body = b"x" * (20 * 2**20)
    response = httpx.post(
        f"{url}/datasets", files={"file": ("a.jsonl", body)}, headers={"Authorization": "Bearer asym_no"}, timeout=30
    )
    assert response.status_code == 401


def test_a_large_upload_is_not_held_in_memory(start_server, member, settings):
    url = start_server()
    line = b'{"question": "1+1=", "answer": "2", "note": "' + b"x" * 1000 + b'"}\n'
    data = line * (SHARED_SIZE // len(line))

    # The server is the only child process that listens there.
    import psutil

    [process] = [
        child for child in psutil.Process().children() if str(httpx.URL(url).port) in " ".join(child.cmdline())
    ]
    before = process.memory_info().rss
    response = httpx.post(
        f"{url}/datasets",
        files={"file": ("big.jsonl", data)},
        headers={"Authorization": f"Bearer {member.key.plain}"},
        timeout=120,
    )
    assert response.status_code == 201
    assert response.json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert process.memory_info().rss - before < SHARED_SIZE


@contextmanager
def own_database(home):
    """Servers of this test's own, to stop and start; yields (database URL, start, stop)."""
    process = None
    urls = {}

    def start():
        nonlocal process
        process = subprocess.Popen(
            [sys.executable, "-m", "store.embedded", "--home", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        urls.update(json.loads(process.stdout.readline()))

    def stop():
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        process.stdout.close()

    start()
    try:
        yield urls, start, stop
    finally:
        if process.poll() is None:
            stop()


def test_without_a_database_it_answers_503_at_once_and_recovers_by_itself(
    tmp_path, start_server, free_port, wait_until
):
    with own_database(tmp_path / "servers") as (urls, start, stop):
        schema.upgrade(urls["database_url"])
        database = Database(urls["database_url"])
        with database.transaction() as session:
            _, plain = keys.create(session, keys.create_team(session, "t").id, "k", Role.MEMBER)
        database.dispose()
        url = start_server(ASYM_DATABASE_URL=urls["database_url"], ASYM_BROKER_URL=urls["broker_url"])
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {plain}"}, timeout=10) as client:
            assert client.get("/jobs").status_code == 200
            stop()
            for path in ("/jobs", "/readyz"):
                asked = time.monotonic()
                response = client.get(path)
                assert time.monotonic() - asked < 6
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) > 0
                assert response.headers["content-type"] == "application/problem+json"
                assert urls["database_url"] not in response.text
                assert "psycopg" not in response.text
            assert client.get("/healthz").status_code == 200
            start()
            wait_until(lambda: client.get("/readyz").status_code == 200)
            assert client.get("/jobs").status_code == 200


def test_it_starts_without_a_database_and_is_not_ready(start_server):
    url = start_server(ready=False, ASYM_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 503


def test_it_is_not_ready_before_the_database_is_migrated(settings, empty_database_url):
    ours = settings.model_copy(update={"database_url": type(settings.database_url)(empty_database_url)})
    with TestClient(create_app(ours)) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert "migrate" in response.json()["detail"]
        schema.upgrade(empty_database_url)
        assert client.get("/readyz").status_code == 200


def test_it_says_which_setting_is_missing(environment):
    del environment["ASYM_DATABASE_URL"]
    ended = subprocess.run(
        [sys.executable, "-m", "api"], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "ASYM_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_dead_worker_is_noticed_though_no_worker_is_left(settings, make_key, make_dataset, make_spec, database):
    from store import jobs

    someone = make_key()
    with database.transaction() as session:
        spec = make_spec(make_dataset(someone.identity).id)
        job, _ = jobs.create(session, someone.identity, spec)
        worker = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=1, version="0")
    with database.transaction() as session:
        assert leases.claim(session, worker.id, free_gpus=0, free_cpu_slots=1, lease_seconds=0.2) is not None
    ours = settings.model_copy(update={"lease_seconds": 0.2, "sweep_seconds": 0.2})
    headers = {"Authorization": f"Bearer {someone.plain}"}
    with TestClient(create_app(ours), headers=headers) as client:
        deadline = time.monotonic() + 20
        while client.get(f"/jobs/{job.id}").json()["status"] != "queued":
            assert time.monotonic() < deadline
        events = client.get(f"/jobs/{job.id}/events").json()["data"]
        assert [event["data"].get("status") for event in events] == ["queued", "running", "queued"]
        # Its worker is given up too: nobody is there to take it.
        while client.get(f"/jobs/{job.id}").json()["queue"]["code"] != "no_worker":
            assert time.monotonic() < deadline
        assert [worker["state"] for worker in client.get("/workers").json()["data"]] == ["lost"]


def test_workers_are_listed(member, database):
    with database.transaction() as session:
        workers.register(session, name="node-1", host="h", pid=1, gpus=2, cpu_slots=3, version="0.1.0")
    [worker] = member.get("/workers").json()["data"]
    assert (worker["name"], worker["gpus"], worker["cpu_slots"]) == ("node-1", 2, 3)


def test_presets_are_listed_resolved(member):
    presets = {preset["name"]: preset["algorithm"] for preset in member.get("/presets").json()["data"]}
    assert presets["asymgrpo"]["beta_pos"] == 0.9
    assert presets["grpo"]["estimator"] == "group_norm"
    assert presets["grpo"]["clip_low"] == 0.2


def test_a_bug_is_a_500_that_tells_nothing(settings, member):
    app = create_app(settings)

    @app.get("/broken")
    def broken():
        raise RuntimeError("the secret is nobody's business")

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["instance"] == "/broken"
    assert "secret" not in response.text
    assert "business" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/jobs", 405), ("GET", "/jobs/job_%00", 404), ("GET", "/jobs?limit=0", 422)],
)
def test_every_refusal_is_a_problem(member, method, path, status):
    response = member.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().keys() >= {"type", "title", "status", "detail", "instance"}


def test_a_405_names_every_method_of_the_path(member):
    for path, methods in (
        ("/jobs", "GET, POST"),
        ("/jobs/job_1", "DELETE, GET, PATCH"),
        ("/jobs/validate", "POST"),
        ("/v1/files/ds_1", "DELETE, GET"),
    ):
        response = member.request("OPTIONS", path)
        assert (response.status_code, response.headers["allow"]) == (405, methods), path


def test_a_body_that_is_not_text_is_told_so(member):
    json_body = {"Content-Type": "application/json"}
    for method, path in (("POST", "/jobs"), ("POST", "/jobs/validate"), ("PATCH", "/jobs/job_1"), ("POST", "/keys")):
        response = member.request(method, path, content=b"\xff\x1d;g", headers=json_body)
        assert (response.status_code, response.json()["errors"]) == (
            422,
            [{"loc": ["body"], "msg": "not JSON in UTF-8"}],
        )
