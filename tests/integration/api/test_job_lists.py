"""Finding jobs: filters, orders, cursors, edits, and what a poll that finds nothing new costs."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from store import job_lists, job_words
from store.access import Role
from store.ids import new_id
from store.status import JobStatus


def ids(response):
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()["data"]]


def test_tags_and_notes_stand_beside_the_spec(member, make_dataset, make_spec):
    spec = make_spec(make_dataset(member.key.identity).id).model_dump(mode="json")
    job = member.post("/jobs", json=spec | {"tags": ["paper", "baseline", "paper"], "notes": "the first"}).json()
    assert (job["tags"], job["notes"]) == (["paper", "baseline"], "the first")
    assert job["spec"] == spec
    (listed,) = member.get("/jobs").json()["data"]
    assert (listed["tags"], listed["model"], listed["preset"]) == (job["tags"], "builtin/tiny-arith", "asymgrpo")
    assert (listed["owner"], listed["created_by"], listed["labels"]) == ("test", member.key.identity.key_id, [])
    assert "notes" not in listed
    assert "spec" not in listed
    for wrong in (
        {"tags": [""]},
        {"tags": ["a,b"]},
        {"tags": [" a"]},
        {"tags": ["a\0"]},
        {"notes": "\0"},
        {"tags": "a"},
    ):
        refused = member.post("/jobs", json=spec | wrong)
        assert refused.status_code == 422, wrong
        assert refused.json()["errors"][0]["loc"][:2] == ["body", *wrong]


def test_an_idempotency_key_holds_for_tags_too(member, make_dataset, make_spec):
    spec = make_spec(make_dataset(member.key.identity).id).model_dump(mode="json")
    key = {"Idempotency-Key": "k"}
    first = member.post("/jobs", json=spec | {"tags": ["a"]}, headers=key)
    assert member.post("/jobs", json=spec | {"tags": ["a"]}, headers=key).json()["id"] == first.json()["id"]
    assert member.post("/jobs", json=spec | {"tags": ["b"]}, headers=key).status_code == 409


def test_an_edit_changes_what_it_names_in_any_status(member, caller, make_job, start_run):
    job = make_job(member)
    start_run(job["id"]).finish()
    path = f"/jobs/{job['id']}"
    edited = member.request("PATCH", path, json={"name": "second", "tags": ["a", "b"], "notes": "n"}).json()
    assert (edited["name"], edited["tags"], edited["notes"]) == ("second", ["a", "b"], "n")
    assert edited["spec"]["name"] == job["name"]
    merge = {"Content-Type": "application/merge-patch+json"}
    emptied = member.request("PATCH", path, content=json.dumps({"tags": None, "notes": None}), headers=merge).json()
    assert (emptied["name"], emptied["tags"], emptied["notes"]) == ("second", [], "")
    assert member.get(path).json() == emptied
    assert member.request("PATCH", path, json={}).json() == emptied
    for wrong in ({"name": None}, {"name": ""}, {"status": "queued"}, {"tags": [1]}, {"notes": "x" * 10_001}, []):
        assert member.request("PATCH", path, json=wrong).status_code == 422, wrong
    assert caller().request("PATCH", path, json={"name": "x"}).status_code == 404
    viewer = caller(Role.VIEWER, member.key.identity.team_id)
    assert viewer.request("PATCH", path, json={"name": "x"}).status_code == 403


def test_an_edit_is_refused_when_another_came_first_but_not_for_the_jobs_own_progress(member, make_job, start_run):
    job = make_job(member)
    path = f"/jobs/{job['id']}"
    seen = member.get(path).headers["etag"]
    run = start_run(job["id"])
    run.step(1)
    first = member.request("PATCH", path, json={"notes": "first"}, headers={"If-Match": seen})
    assert first.status_code == 200
    second = member.request("PATCH", path, json={"notes": "second"}, headers={"If-Match": seen})
    assert second.status_code == 412
    assert second.json()["type"] == "urn:asym:problem:precondition-failed"
    assert member.get(path).json()["notes"] == "first"
    for known in (first.headers["etag"], "*", f'"x", {first.headers["etag"]}'):
        assert member.request("PATCH", path, json={}, headers={"If-Match": known}).status_code == 200
    assert member.request("PATCH", path, json={}, headers={"If-Match": "nonsense"}).status_code == 412


def test_a_clone_has_the_tags_and_a_retry_the_notes_too(member, make_job, start_run):
    job = make_job(member)
    path = f"/jobs/{job['id']}"
    member.request("PATCH", path, json={"tags": ["a"], "notes": "n"})
    start_run(job["id"]).finish(JobStatus.FAILED, {"kind": "user", "code": "c", "message": "m", "evidence": []})
    clone, retry = (member.post(f"{path}/{action}").json() for action in ("clone", "retry"))
    assert (clone["tags"], clone["notes"]) == (["a"], "")
    assert (retry["tags"], retry["notes"]) == (["a"], "n")


@pytest.fixture
def many(member, make_job, database):
    """make(count): so many jobs of the member's, most of them ended, in one statement; newest first: name, id."""

    def make(count):
        template = make_job(member)["id"]
        rows = [
            {
                "id": new_id("job"),
                "name": f"run-{number % 7} gsm8k_v{number % 3}",
                "status": "queued" if number % 50 == 0 else ("failed" if number % 9 == 0 else "succeeded"),
                "at": datetime.now(UTC) - timedelta(minutes=count - number),
                "preset": "grpo" if number % 4 else "asymgrpo",
                "tags": [f"t{number % 10}"],
                "words": job_words.beginnings(f"run-{number % 7} gsm8k_v{number % 3}", ""),
                "accuracy": None if number % 5 == 0 else number % 11 / 11,
                "gpu_seconds": 0.1 * (number % 13),
            }
            for number in range(count)
        ]
        with database.transaction() as session:
            session.execute(
                text("""
                INSERT INTO jobs (id, team_id, created_by, name, status, spec, demand, model, max_attempts, steps,
                                  created_at, finished_at, preset, tags, words, accuracy, gpu_seconds)
                SELECT row.id, old.team_id, old.created_by, row.name, row.status, old.spec, old.demand, old.model, 3, 5,
                       row.at, CASE WHEN row.status <> 'queued' THEN row.at END, row.preset,
                       ARRAY(SELECT jsonb_array_elements_text(row.tags)),
                       ARRAY(SELECT jsonb_array_elements_text(row.words)), row.accuracy, row.gpu_seconds
                FROM jobs AS old, jsonb_to_recordset(CAST(:rows AS jsonb)) AS row
                    (id text, name text, status text, at timestamptz, preset text, tags jsonb, words jsonb,
                     accuracy double precision, gpu_seconds double precision)
                WHERE old.id = :template
                """),
                {"rows": json.dumps(rows, default=str), "template": template},
            )
            session.execute(text("DELETE FROM job_events"))
            session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": template})
            session.execute(text("ANALYZE jobs"))
        return rows[::-1]

    return make


ORDERS = {
    "-created": lambda row: row["id"],
    "created": lambda row: row["id"],
    "name": lambda row: (row["name"].encode(), row["id"]),
    "-name": lambda row: (row["name"].encode(), row["id"]),
    "status": lambda row: (row["status"], row["id"]),
    "-status": lambda row: (row["status"], row["id"]),
    "finished": lambda row: (row["at"], row["id"]),
    "-finished": lambda row: (row["at"], row["id"]),
    "accuracy": lambda row: (row["accuracy"], row["id"]),
    "-accuracy": lambda row: (row["accuracy"], row["id"]),
    "gpu_seconds": lambda row: (row["gpu_seconds"], row["id"]),
    "-gpu_seconds": lambda row: (row["gpu_seconds"], row["id"]),
}


@pytest.mark.parametrize("sort", ORDERS)
def test_every_order_is_read_whole_page_by_page(member, many, sort):
    rows = many(120)
    if sort.removeprefix("-") in ("finished", "accuracy", "gpu_seconds"):
        rows = [row for row in rows if row["status"] != "queued"]
    if "accuracy" in sort:
        rows = [row for row in rows if row["accuracy"] is not None]
    rows = sorted(rows, key=ORDERS[sort], reverse=sort.startswith("-"))
    found, after = [], None
    while True:
        page = member.get("/jobs", params={"sort": sort, "limit": 50} | ({"after": after} if after else {})).json()
        found += page["data"]
        after = page["next"]
        if not page["has_more"]:
            break
    assert [job["id"] for job in found] == [row["id"] for row in rows]


@pytest.mark.parametrize(("nearest", "many_are"), [(1000, 5000), (10, 5000), (10, 15)])
def test_filters_are_met_all_at_once(member, caller, many, monkeypatch, nearest, many_are):
    """Whichever way a search goes: among the nearest, through the index, in order."""
    monkeypatch.setattr(job_lists, "_NEAREST", nearest)
    monkeypatch.setattr(job_lists, "_MANY", many_are)
    rows = many(120)
    now = datetime.now(UTC)

    def expected(condition):
        return [row["id"] for row in rows if condition(row)][:50]

    for params, condition in (
        ({"status": ["queued", "failed"]}, lambda row: row["status"] != "succeeded"),
        ({"status": "failed", "tag": "t9"}, lambda row: row["status"] == "failed" and row["tags"] == ["t9"]),
        ({"tag": ["t1", "t2"]}, lambda row: False),
        ({"preset": "asymgrpo"}, lambda row: row["preset"] == "asymgrpo"),
        ({"model": "builtin/tiny-arith"}, lambda row: True),
        ({"model": "builtin/none"}, lambda row: False),
        ({"owner": member.key.identity.key_id, "tag": "t3"}, lambda row: row["tags"] == ["t3"]),
        ({"owner": "key_other"}, lambda row: False),
        ({"text": "gsm8 V1"}, lambda row: row["name"].endswith("v1")),
        ({"text": "gsm8k v1", "tag": "t4"}, lambda row: row["name"].endswith("v1") and row["tags"] == ["t4"]),
        ({"text": "run", "status": "queued"}, lambda row: row["status"] == "queued"),
        ({"text": "v2", "owner": member.key.identity.key_id}, lambda row: row["name"].endswith("v2")),
        ({"text": "  --  "}, lambda row: True),
        ({"text": "gsm8k'):* | x"}, lambda row: False),
        (
            {"created_after": (now - timedelta(minutes=10)).isoformat()},
            lambda row: row["at"] >= now - timedelta(minutes=10),
        ),
        (
            {"created_before": (now - timedelta(minutes=100)).isoformat()},
            lambda row: row["at"] < now - timedelta(minutes=100),
        ),
        ({"created_after": "0001-01-01T00:00:00"}, lambda row: True),
        ({"created_before": "9999-12-31T23:59:59Z"}, lambda row: True),
        ({"id": [rows[7]["id"], rows[3]["id"], "job_none"]}, lambda row: row in (rows[3], rows[7])),
        ({"team": member.key.identity.team_id, "tag": "t0"}, lambda row: row["tags"] == ["t0"]),
    ):
        assert ids(member.get("/jobs", params=params)) == expected(condition), params
    stranger = caller()
    assert stranger.get("/jobs", params={"team": member.key.identity.team_id}).status_code == 404
    assert ids(stranger.get("/jobs", params={"owner": member.key.identity.key_id})) == []


def test_a_search_is_a_value_and_never_a_part_of_the_statement(member, make_job):
    """The entries stand in the statement itself: U+0000 once cut it off, which was a 500."""
    job = make_job(member)
    tags = ["it's", 'a "b"', "a\\'b", "100%", "%s", ":x", "é'); --", "$$"]
    for tag in tags:
        member.request("PATCH", f"/jobs/{job['id']}", json={"tags": [tag]})
        assert ids(member.get("/jobs", params={"tag": tag})) == [job["id"]], tag
    for nothing in ("a\0b", "\0", "{}", "{a,b}", "'", "\\"):
        assert ids(member.get("/jobs", params={"tag": nothing})) == [], nothing
    assert ids(member.get("/jobs", params={"text": "addi\0tions"})) == []


def test_a_word_of_a_renamed_job_is_found(member, make_job):
    job = make_job(member, name="gsm8k-asym_v2")
    for found in ("asym", "V2", "gsm8k asym", "GSM"):
        assert ids(member.get("/jobs", params={"text": found})) == [job["id"]], found
    member.request("PATCH", f"/jobs/{job['id']}", json={"name": "other", "notes": "Überraschung!"})
    assert ids(member.get("/jobs", params={"text": "überr"})) == [job["id"]]
    assert ids(member.get("/jobs", params={"text": "gsm8k"})) == []


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!!!",
        base64.urlsafe_b64encode(b'["\\ud800", "a"]').decode(),
        "W10",
        base64.urlsafe_b64encode(b'["a\\u0000", "b"]').decode(),
        base64.urlsafe_b64encode(b'[[1], "b"]').decode(),
        base64.urlsafe_b64encode(b"[1" + b"0" * 400 + b', "b"]').decode(),
    ],
)
def test_a_cursor_of_nothing_is_refused(member, cursor):
    for sort in ("name", "finished", "status", "accuracy"):
        response = member.get("/jobs", params={"sort": sort, "after": cursor})
        assert response.status_code == 422
        assert response.json()["errors"][0]["loc"] == ["query", "after"]


def test_a_deleted_job_moves_no_page(member, many):
    rows = sorted(many(30), key=ORDERS["name"])
    page = member.get("/jobs", params={"sort": "name", "limit": 10}).json()
    last = page["data"][-1]
    if last["status"] == "queued":
        member.post(f"/jobs/{last['id']}/cancel")
    assert member.delete(f"/jobs/{last['id']}").status_code == 204
    rest = ids(member.get("/jobs", params={"sort": "name", "limit": 50, "after": page["next"]}))
    assert rest == [row["id"] for row in rows[10:]]


def test_a_poll_that_finds_nothing_new_is_a_304_until_something_changes(member, caller, make_job, start_run):
    job = make_job(member)
    run = start_run(job["id"])
    run.step(1)
    for path in ("/jobs", f"/jobs/{job['id']}", "/jobs?sort=name&status=running", "/datasets", "/queue", "/workers"):
        first = member.get(path)
        known = {"If-None-Match": first.headers["etag"]}
        again = member.get(path, headers=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"]), path
        assert first.headers["cache-control"] == "private, no-cache"
        # Another team's tag is another one, though both lists may look the same.
        theirs = caller().get(path, headers=known)
        assert theirs.status_code == (404 if path.endswith(job["id"]) else 200)
    known = {path: {"If-None-Match": member.get(path).headers["etag"]} for path in ("/jobs", f"/jobs/{job['id']}")}
    run.step(2)
    for path, headers in known.items():
        fresh = member.get(path, headers=headers)
        assert fresh.status_code == 200
        shown = fresh.json()["data"][0] if path == "/jobs" else fresh.json()
        assert shown["progress"]["step"] == 2


def test_what_one_did_oneself_is_never_hidden_by_a_304(member, make_job):
    known = {path: member.get(path).headers["etag"] for path in ("/queue", "/jobs", "/datasets")}
    job = make_job(member)
    for path, tag in known.items():
        assert member.get(path, headers={"If-None-Match": tag}).status_code == 200, path
    queued = member.get(f"/jobs/{job['id']}")
    member.post(f"/jobs/{job['id']}/pause")
    paused = member.get(f"/jobs/{job['id']}", headers={"If-None-Match": queued.headers["etag"]})
    assert paused.json()["status"] == "paused"
    assert member.get("/queue", headers={"If-None-Match": known["/queue"]}).json()["data"] == []


def test_the_accuracy_is_that_of_the_last_step(member, make_job, start_run):
    job = make_job(member)
    assert job["accuracy"] is None
    run = start_run(job["id"])
    run.step(1, group__accuracy=0.25)
    run.step(2, group__accuracy=0.5)
    assert member.get("/jobs").json()["data"][0]["accuracy"] == 0.5


def test_a_304_costs_less_than_the_list(member, many):
    many(2000)

    def fastest(headers):
        best = float("inf")
        for _ in range(15):
            began = time.perf_counter()
            member.get("/jobs", params={"limit": 200}, headers=headers)
            best = min(best, time.perf_counter() - began)
        return best

    tag = member.get("/jobs", params={"limit": 200}).headers["etag"]
    assert fastest({"If-None-Match": tag}) < 0.7 * fastest({})
