"""Webhooks: set up over HTTP, told by the API of what becomes of jobs, whatever the other side does."""

import json
import signal
import socket
import threading
from collections import Counter

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from standardwebhooks.webhooks import WebhookVerificationError

from api.main import create_app
from store import jobs
from store.access import Role
from store.status import JobStatus
from store.webhooks import hooks, turns
from store.webhooks.events import HookEvent
from tests.integration.api.receiver import SECONDS, receiving
from trainer.spec import events

HOST = "receiver.example"


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"webhook_hosts": [HOST, "127.0.0.1"], "outgoing_networks": ["127.0.0.1/32"]})


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr("api.webhooks.deliverer.POLL_SECONDS", 0.05)
    monkeypatch.setattr("api.webhooks.deliverer.ANSWER_SECONDS", 1.0)


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


@pytest.fixture
def admin(caller):
    return caller(Role.ADMIN)


@pytest.fixture
def hook(admin, receiver):
    """hook(url=None, who=admin, **more): a webhook of the team, with its secret."""

    def make(url=None, who=admin, **more):
        answer = who.post("/webhooks", json={"name": "h", "url": url or receiver.url(), **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return make


@pytest.fixture
def deliveries(admin, wait_until):
    """deliveries(hook, *statuses, count=1): the newest, once there are so many and all have one of these statuses."""

    def find(hook, *statuses, count=1):
        def settled():
            found = admin.get(f"/webhooks/{hook['id']}/deliveries").json()["data"]
            return len(found) >= count and all(each["status"] in statuses for each in found) and found

        return wait_until(settled, SECONDS)

    return find


@pytest.fixture
def tried(admin, wait_until):
    """tried(hook): the newest delivery, once a try has failed."""

    def find(hook):
        def failed():
            found = admin.get(f"/webhooks/{hook['id']}/deliveries").json()["data"]
            return found and found[0]["error"] and found[0]

        return wait_until(failed, SECONDS)

    return find


@pytest.fixture
def due_now(database):
    """due_now(): what is pending is due, and whoever was at a webhook is taken to be gone."""

    def now():
        with database.transaction() as session:
            session.execute(text("UPDATE webhook_deliveries SET due_at = clock_timestamp() WHERE status = 'pending'"))
            session.execute(text("UPDATE webhooks SET busy_until = clock_timestamp()"))

    return now


def warning(code="entropy_collapse"):
    return events.Log(time=0.0, level="warning", code=code, message="the entropy has collapsed", step=2)


def checkpoint(step=2):
    return events.Checkpoint(
        time=0.0, step=step, path=f"checkpoints/{step}", manifest_sha256="0" * 64, bytes=1, score=None
    )


def test_a_jobs_life_is_told_in_order_and_signed(admin, hook, receiver, make_job, start_run, wait_until):
    made = hook()
    job = make_job(admin, name="told")
    run = start_run(job["id"])
    run.step(1)
    run.record(warning(), checkpoint(), events.Log(time=0.0, level="info", code="x", message="no alert"))
    run.finish(JobStatus.FAILED, {"kind": "user", "code": "c", "message": "m", "evidence": ["a-secret-last-word"]})
    names = ["job.queued", "job.running", "job.alert", "job.checkpoint", "job.failed"]
    wait_until(lambda: len(receiver.told) >= len(names), SECONDS)
    assert receiver.events(made["secret"]) == names
    first, alert, last = (receiver.told[index].verified(made["secret"]) for index in (0, 2, 4))
    assert first["data"]["job"] == {
        "id": job["id"], "name": "told", "status": "queued", "attempt": 0, "step": 0, "steps": 5, "tags": [],
    }  # fmt: skip
    assert first["timestamp"].endswith("Z")
    assert (alert["data"]["details"]["code"], alert["data"]["details"]["step"]) == ("entropy_collapse", 2)
    assert last["data"]["details"] == {"failure": {"kind": "user", "code": "c", "message": "m"}}
    assert not [each for each in receiver.told if b"last-word" in each.body]
    assert len({each.id for each in receiver.told}) == len(names)
    with pytest.raises(WebhookVerificationError):
        receiver.told[0].verified("whsec_" + "A" * 43 + "=")


def test_filters_and_other_teams(admin, caller, hook, receiver, make_job, wait_until):
    stranger = caller(Role.ADMIN)
    failures = hook(receiver.url("/failures"), events=["job.cancelled"])
    tagged = hook(receiver.url("/tagged"), tags=["a", "b"])
    theirs = hook(receiver.url("/theirs"), who=stranger)
    for tags in (["a"], ["b", "c", "a"]):
        job = make_job(admin)
        admin.request("PATCH", f"/jobs/{job['id']}", json={"tags": tags})
        admin.post(f"/jobs/{job['id']}/cancel")
    wait_until(lambda: len(receiver.told) >= 3, SECONDS)
    assert receiver.events(failures["secret"], "/failures") == ["job.cancelled"] * 2
    assert receiver.events(tagged["secret"], "/tagged") == ["job.cancelled"]
    assert receiver.events(theirs["secret"], "/theirs") == []


def test_a_target_that_never_answers_costs_a_bounded_time_and_nobody_else(hook, deliveries, tried, receiver, admin):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = [hook(f"http://127.0.0.1:{silent.getsockname()[1]}/{number}") for number in range(3)]
        for each in dead:
            admin.post(f"/webhooks/{each['id']}/test")
        well = hook()
        admin.post(f"/webhooks/{well['id']}/test")
        assert deliveries(well, "delivered")[0]["answer"] == 204
        found = [tried(each) for each in dead]
    assert {each["error"] for each in found} == {"no answer within 1 s"}
    assert {each["status"] for each in found} == {"pending"}
    assert all(each["due_at"] > each["tried_at"] for each in found)
    assert admin.get(f"/webhooks/{dead[0]['id']}").json()["failing_since"] is not None


def test_a_receiver_that_dribbles_is_cut_off(hook, tried, admin):
    """Each piece comes in time, and the whole never does."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def dribble():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                try:
                    while not stop.wait(0.1):
                        connection.sendall(b"X-A: 1\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        made = hook(f"http://127.0.0.1:{server.getsockname()[1]}/")
        admin.post(f"/webhooks/{made['id']}/test")
        assert tried(made)["error"] == "no answer within 1 s"
        stop.set()
        thread.join()


def test_no_redirect_is_followed(hook, tried, receiver, admin):
    receiver.status = 307
    receiver.headers = {"Location": "http://169.254.169.254/latest/meta-data/"}
    made = hook()
    admin.post(f"/webhooks/{made['id']}/test")
    found = tried(made)
    assert (found["answer"], found["error"]) == (307, "answered 307: redirects are not followed")
    assert len(receiver.told) == 1


PRIVATE = ["10.0.0.1", "169.254.169.254", "127.0.0.2", "::1", "::ffff:169.254.169.254"]


def test_a_name_that_leads_to_a_private_address_is_not_called(settings, make_key, wait_until, monkeypatch):
    named = {f"{number}.{HOST}": address for number, address in enumerate(PRIVATE)}
    monkeypatch.setattr("trainer.spec.outgoing._resolve", lambda host, port: ["127.0.0.1", named[host]])
    key = make_key(Role.ADMIN)
    with receiving() as receiver, TestClient(create_app(settings)) as http:
        http.headers["Authorization"] = f"Bearer {key.plain}"
        for host in named:
            made = http.post("/webhooks", json={"name": "h", "url": receiver.url(host=host)}).json()
            path = f"/webhooks/{made['id']}"
            http.post(f"{path}/test")

            def failed(path=path):
                return [each for each in http.get(f"{path}/deliveries").json()["data"] if each["error"]]

            (found,) = wait_until(failed, SECONDS)
            assert found["error"].startswith("not called: the host has an address that may not be called"), named[host]
    assert receiver.told == []


def test_a_delivery_is_replayed_under_its_old_id(hook, deliveries, receiver, admin, wait_until):
    made = hook()
    admin.post(f"/webhooks/{made['id']}/test")
    (delivery,) = deliveries(made, "delivered")
    answer = admin.post(f"/webhooks/{made['id']}/deliveries/{delivery['id']}/replay")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    wait_until(lambda: len(receiver.told) == 2, SECONDS)
    assert receiver.told[0].id == receiver.told[1].id == f"dlv_{delivery['id']}"
    assert receiver.told[0].body == receiver.told[1].body
    for unknown in (delivery["id"] + 1, 2**63 - 1):
        assert admin.post(f"/webhooks/{made['id']}/deliveries/{unknown}/replay").status_code == 404


def test_one_that_is_deleted_while_it_is_told_is_told_nothing_more(hook, receiver, admin, wait_until, database):
    made = hook()
    deleted = threading.Event()
    receiver.before_answer = lambda told: deleted.wait(SECONDS)
    for _ in range(3):
        admin.post(f"/webhooks/{made['id']}/test")
    wait_until(lambda: receiver.told, SECONDS)
    assert admin.delete(f"/webhooks/{made['id']}").status_code == 204
    deleted.set()
    assert admin.get(f"/webhooks/{made['id']}").status_code == 404
    assert admin.get(f"/webhooks/{made['id']}/deliveries").status_code == 404
    # Another one is told, so the deliverer is past it and well.
    receiver.before_answer = lambda told: None
    other = hook(receiver.url("/other"))
    admin.post(f"/webhooks/{other['id']}/test")
    wait_until(lambda: receiver.events(other["secret"], "/other"), SECONDS)
    assert len([each for each in receiver.told if each.path == "/"]) == 1

    def left():
        with database.transaction() as session:
            turns.prune(session)
            return session.scalar(text("SELECT count(*) FROM webhook_deliveries WHERE hook_id = :id"), made)

    assert left() == 0


def test_several_processes_share_the_work_and_none_does_it_twice(settings, make_key, wait_until, database):
    key = make_key(Role.ADMIN)
    with receiving() as receiver, TestClient(create_app(settings)) as one:
        one.headers["Authorization"] = f"Bearer {key.plain}"
        ids = [
            one.post("/webhooks", json={"name": "h", "url": receiver.url(f"/{number}")}).json()["id"]
            for number in range(6)
        ]
        with TestClient(create_app(settings)):
            for _ in range(8):
                for hook_id in ids:
                    assert one.post(f"/webhooks/{hook_id}/test").status_code == 202
            wait_until(lambda: len(receiver.told) >= 48, SECONDS)

            def all_settled():
                with database.transaction() as session:
                    return turns.waiting(session) == 0

            wait_until(all_settled, SECONDS)
    counted = Counter(each.id for each in receiver.told)
    assert len(counted) == 48
    assert set(counted.values()) == {1}
    for number in range(6):
        order = [int(each.id.removeprefix("dlv_")) for each in receiver.told if each.path == f"/{number}"]
        assert order == sorted(order)


def test_what_was_committed_is_told_after_a_kill_too(
    database, make_key, make_dataset, make_spec, start_server, wait_until, tmp_path, due_now, settings
):
    """Killed when a job's row is committed and nobody was told; then again between the call and its entry."""
    key = make_key(Role.ADMIN)
    told = {"ASYM_WEBHOOK_HOSTS": "127.0.0.1", "ASYM_OUTGOING_NETWORKS": "127.0.0.1/32"}
    with receiving() as receiver:
        armed = tmp_path / "failpoints"
        armed.mkdir()
        (armed / "api.webhook_taken#1.json").write_text(json.dumps({"action": "kill"}))
        with database.transaction() as session:
            hooks.create(session, key.identity, name="h", url=receiver.url(), events=[HookEvent.QUEUED], tags=[])
            jobs.create(session, key.identity, make_spec(make_dataset(key.identity).id))
        for point in ("api.webhook_called", None):
            assert start_server.killed(ASYM_FAILPOINTS=str(armed), **told) == -signal.SIGKILL
            if point is not None:
                assert receiver.told == []
                (armed / f"{point}#1.json").write_text(json.dumps({"action": "kill"}))
            due_now()
        assert len(receiver.told) == 1
        with TestClient(create_app(settings)):
            wait_until(lambda: len(receiver.told) >= 2, SECONDS)
    assert receiver.told[0].id == receiver.told[1].id
    assert receiver.told[0].body == receiver.told[1].body


def test_a_secret_can_be_changed_with_both_signing_for_a_while(hook, receiver, admin, deliveries):
    made = hook()
    path = f"/webhooks/{made['id']}"
    changed = admin.post(f"{path}/rotate", json={"grace_seconds": 60}).json()
    assert changed["secret"] != made["secret"]
    assert changed["old_secret_until"] is not None
    admin.post(f"{path}/test")
    deliveries(made, "delivered")
    for secret in (made["secret"], changed["secret"]):
        assert receiver.told[0].verified(secret)["type"] == "webhook.test"
    last = admin.post(f"{path}/rotate").json()
    admin.post(f"{path}/test")
    deliveries(made, "delivered", count=2)
    assert receiver.told[1].verified(last["secret"])
    for secret in (made["secret"], changed["secret"]):
        with pytest.raises(WebhookVerificationError):
            receiver.told[1].verified(secret)
    assert "secret" not in admin.get(path).json()
    assert "whsec_" not in admin.get("/webhooks").text


def test_off_and_on(hook, receiver, admin, deliveries, tried, make_job):
    receiver.status = 500
    made = hook()
    path = f"/webhooks/{made['id']}"
    admin.post(f"{path}/test")
    assert tried(made)["error"] == "answered 500"
    assert admin.request("PATCH", path, json={"active": False}).json()["active"] is False
    (given_up,) = deliveries(made, "failed")
    assert given_up["error"] == "the webhook was switched off before this was delivered"
    make_job(admin)
    assert len(admin.get(f"{path}/deliveries").json()["data"]) == 1
    for refused in ("test", f"deliveries/{given_up['id']}/replay"):
        assert admin.post(f"{path}/{refused}").status_code == 409
    receiver.status = 200
    admin.request("PATCH", path, json={"active": True, "name": "n", "events": ["job.paused"], "tags": ["t"]})
    admin.post(f"{path}/deliveries/{given_up['id']}/replay")
    deliveries(made, "delivered")
    shown = admin.get(path).json()
    assert (shown["name"], shown["events"], shown["tags"], shown["failing_since"]) == ("n", ["job.paused"], ["t"], None)


REFUSED = [
    ({"url": "https://elsewhere.example/"}, "url"),
    ({"url": "https://notreceiver.example/"}, "url"),
    ({"url": "http://10.0.0.1/"}, "url"),
    ({"url": "ftp://receiver.example/"}, "url"),
    ({"url": "https://u:p@receiver.example/"}, "url"),
    ({"url": "nothing"}, "url"),
    ({"url": "https://receiver.example:99999/"}, "url"),
    ({"events": []}, "events"),
    ({"events": ["job.exploded"]}, "events"),
    ({"secret": "whsec_mine"}, "secret"),
    ({"name": ""}, "name"),
]


def test_what_is_refused_says_why(admin, receiver):
    for body, loc in REFUSED:
        answer = admin.post("/webhooks", json={"name": "h", "url": receiver.url(), **body})
        assert answer.status_code == 422, body
        assert loc in answer.json()["errors"][0]["loc"], body


def test_a_team_has_so_many_at_most(admin, hook, receiver, monkeypatch):
    monkeypatch.setattr("store.webhooks.hooks.MOST", 2)
    hook(), hook()
    assert admin.post("/webhooks", json={"name": "h", "url": receiver.url()}).status_code == 409


def test_without_a_word_of_the_operator_nothing_goes_out(settings, make_key):
    key = make_key(Role.ADMIN)
    with TestClient(create_app(settings.model_copy(update={"webhook_hosts": []}))) as http:
        answer = http.post(
            "/webhooks",
            json={"name": "h", "url": "https://example.com/"},
            headers={"Authorization": f"Bearer {key.plain}"},
        )
    assert answer.status_code == 422
    assert "ASYM_WEBHOOK_HOSTS" in answer.json()["detail"]


def test_what_an_api_tells_prometheus_of_webhooks(admin, hook, deliveries, app, anonymous):
    made = hook()
    admin.post(f"/webhooks/{made['id']}/test")
    deliveries(made, "delivered")
    local = TestClient(app, client=("127.0.0.1", 50_000))
    local.portal = anonymous.portal
    told = local.get("/metrics").text
    assert 'asym_webhook_tries_total{status="delivered"} 1.0' in told
    assert "asym_webhook_deliveries_pending" in told
