"""What a team may use, as the API shows and enforces it; and the workers, as it lists them."""

import pytest

from store import leases, reservations, teams, workers
from store.policy import Policy


@pytest.fixture
def limit(database):
    """limit(caller, **limits): set its team's."""

    def set_to(caller, **limits):
        with database.transaction() as session:
            teams.set_limits(session, teams.find(session, caller.key.identity.team_id), limits)

    return set_to


def test_a_full_queue_refuses_and_says_what_to_do(member, make_job, limit, make_dataset, make_spec):
    job = make_job(member)
    limit(member, queued_jobs=1)
    spec = make_spec(make_dataset(member.key.identity).id).model_dump(mode="json")
    refused = member.post("/jobs", json=spec)
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:asym:problem:queue-limit"
    assert refused.json()["detail"] == (
        "the team has 1 jobs in the queue and its limit is 1: wait until some have begun, or cancel some"
    )
    assert [each["id"] for each in member.get("/jobs").json()["data"]] == [job["id"]]
    member.post(f"/jobs/{job['id']}/cancel")
    key = {"Idempotency-Key": "again"}
    assert member.post("/jobs", json=spec, headers=key).status_code == 201
    assert member.post("/jobs", json=spec, headers=key).status_code == 200, "a repeated request is no further job"


def test_a_full_disk_refuses_files_and_jobs(member, limit, make_dataset, make_spec, stored_files):
    dataset = make_dataset(member.key.identity)
    before = stored_files()
    limit(member, disk_bytes=dataset.bytes + 10)
    file = {"file": ("more.jsonl", b'{"prompt": "1+1=", "answer": "2"}\n')}
    refused = member.post("/datasets", files=file)
    assert (refused.status_code, refused.json()["type"]) == (413, "urn:asym:problem:disk-limit")
    assert "delete data sets or jobs" in refused.json()["detail"]
    assert stored_files() == before
    spec = make_spec(dataset.id).model_dump(mode="json")
    assert member.post("/jobs", json=spec).status_code == 201
    limit(member, disk_bytes=dataset.bytes)
    assert member.post("/jobs", json=spec).status_code == 413
    limit(member, disk_bytes=10**6)
    assert member.post("/datasets", files=file).status_code == 201


def test_me_shows_the_teams_limits_and_use(member, make_job, limit):
    make_job(member)
    limit(member, running_gpus=4, gpu_hours=-1)
    me = member.get("/me").json()
    assert me["limits"] == {"running_gpus": 4, "queued_jobs": None, "gpu_hours": None, "disk_bytes": None}
    used = me["used"]
    assert (used["running_gpus"], used["queued_jobs"], used["gpu_hours"]) == (0, 1, 0.0)
    assert used["disk_bytes"] > 0
    assert me["team_name"].startswith("team ")


def test_workers_show_what_they_have_and_run(member, caller, make_job, database):
    with database.transaction() as session:
        worker = workers.register(
            session,
            name="node-1",
            host="h",
            pid=1,
            gpus=2,
            cpu_slots=1,
            version="0",
            devices=[{"name": "H100", "memory_gb": 86}, {"name": None, "memory_gb": None}],
            labels=["h100"],
        ).id
        lost = workers.register(session, name="gone", host="h", pid=2, gpus=0, cpu_slots=1, version="0").id
        workers.mark_lost(session, -1.0)
        workers.heartbeat(session, worker)
    mine = make_job(member, resources={"gpus": 1, "labels": ["h100"], "gpu_memory": 80})
    with database.transaction() as session:
        leases.claim(session, worker, [86, None], 1, 60)
    large = make_job(member, resources={"gpus": 2})
    with database.transaction() as session:
        reservations.keep_workers_free(session, Policy(reserve_after_seconds=0.0))
    gone, alive = member.get("/workers").json()["data"]
    assert (gone["id"], gone["state"], gone["jobs"], gone["busy_gpus"]) == (lost, "lost", [], 0)
    assert (alive["state"], alive["busy_gpus"], alive["kept_for"], alive["labels"]) == ("alive", 1, 2, ["h100"])
    assert alive["devices"] == [{"name": "H100", "memory_gb": 86}, {"name": None, "memory_gb": None}]
    assert alive["jobs"] == [{"id": mine["id"], "name": mine["name"], "gpus": 1}]
    seen_by_others = caller().get("/workers").json()["data"][1]
    assert (seen_by_others["jobs"], seen_by_others["busy_gpus"]) == ([], 1)
    queued = member.get("/queue").json()["data"]
    assert [(job["id"], job["queue"]["wait_reason"]) for job in queued] == [
        (large["id"], "worker node-1 is kept free for it and gets free as its jobs end")
    ]
