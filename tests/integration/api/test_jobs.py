"""Creating, reading and steering jobs over HTTP."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from store.access import Role
from store.status import JobStatus

NOBODY = {"position": 1, "wait_reason": "no worker is connected", "code": "no_worker", "eta_seconds": None}


@pytest.fixture
def spec(member, make_dataset, make_spec):
    return make_spec(make_dataset(member.key.identity).id).model_dump(mode="json")


def test_a_job_is_created_queued_with_its_resolved_spec(member, make_dataset):
    dataset = make_dataset(member.key.identity)
    given = {
        "name": "short",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": dataset.id},
        "reward": {"kind": "exact"},
        "optim": {"prompts_per_step": 32},
    }
    response = member.post("/jobs", json=given)
    job = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert job["status"] == "queued"
    assert job["attempt"] == 0
    assert job["spec"]["algorithm"] | {"beta_pos": 0.9, "beta_neg": 0.4} == job["spec"]["algorithm"]
    assert job["progress"] == {"step": 0, "steps": 100, "seconds_per_step": None, "eta_seconds": None}
    assert job["queue"] == NOBODY
    assert (job["started_at"], job["finished_at"], job["failure"], job["eta_seconds"]) == (None, None, None, None)
    assert member.get(f"/jobs/{job['id']}").json() == job


def test_a_running_job_has_progress_and_an_eta_and_a_finished_one_has_not(member, make_job, start_run):
    job = make_job(member, train={"steps": 10})
    run = start_run(job["id"])
    run.step(1, perf__step_seconds=0.5)
    running = member.get(f"/jobs/{job['id']}").json()
    assert running["status"] == "running"
    assert running["attempt"] == 1
    assert running["queue"] is None
    assert running["progress"] == {"step": 1, "steps": 10, "seconds_per_step": 0.5, "eta_seconds": 4.5}
    assert running["eta_seconds"] == 4.5
    assert running["started_at"] is not None

    failure = {"kind": "user", "code": "loss_not_finite", "message": "NaN in step 2", "evidence": ["loss nan"]}
    run.finish(JobStatus.FAILED, failure)
    failed = member.get(f"/jobs/{job['id']}").json()
    assert (failed["status"], failed["failure"], failed["eta_seconds"]) == ("failed", failure, None)
    assert failed["finished_at"] > failed["started_at"]


def test_an_idempotency_key_gives_the_same_job_and_refuses_another_payload(member, caller, spec, make_dataset):
    key = {"Idempotency-Key": "once"}
    first = member.post("/jobs", json=spec, headers=key)
    again = member.post("/jobs", json=spec, headers=key)
    other = member.post("/jobs", json=spec | {"seed": 1}, headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json()["id"] == first.json()["id"]
    assert other.json()["type"] == "urn:asym:problem:conflict"
    assert len(member.get("/jobs").json()["data"]) == 1

    stranger = caller()
    theirs = stranger.post(
        "/jobs", json=spec | {"data": {"train": make_dataset(stranger.key.identity).id}}, headers=key
    )
    assert theirs.status_code == 201  # keys of one team mean nothing to another


def test_an_idempotency_key_sent_at_once_from_many_threads_makes_one_job(member, spec):
    def create(_):
        return member.post("/jobs", json=spec, headers={"Idempotency-Key": "race"})

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(create, range(8)))
    assert sorted(response.status_code for response in responses) == [200] * 7 + [201]
    assert len({response.json()["id"] for response in responses}) == 1


def test_a_repeated_request_finds_its_job_though_the_data_set_is_gone(member, spec):
    key = {"Idempotency-Key": "kept"}
    job = member.post("/jobs", json=spec, headers=key).json()
    member.post(f"/jobs/{job['id']}/cancel")
    assert member.delete(f"/datasets/{spec['data']['train']}").status_code == 204
    assert member.post("/jobs", json=spec, headers=key).json()["id"] == job["id"]


@pytest.mark.parametrize("bad", ["", "x" * 256, "snow☃"])
def test_an_idempotency_key_is_short_printable_ascii(member, spec, bad):
    response = member.post("/jobs", json=spec, headers={"Idempotency-Key": bad.encode()})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["header", "idempotency-key"]


def test_lists_are_paged_newest_first_and_leave_out_the_spec(member, make_job):
    ids = [make_job(member)["id"] for _ in range(5)]
    first = member.get("/jobs", params={"limit": 2}).json()
    second = member.get("/jobs", params={"limit": 2, "after": first["next"]}).json()
    third = member.get("/jobs", params={"limit": 2, "after": second["next"]}).json()
    assert [job["id"] for page in (first, second, third) for job in page["data"]] == ids[::-1]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert third["next"] is None
    assert all("spec" not in job for job in first["data"])


def test_lists_filter_by_status(member, make_job):
    kept, gone = make_job(member)["id"], make_job(member)["id"]
    member.post(f"/jobs/{gone}/cancel")
    assert [job["id"] for job in member.get("/jobs?status=queued").json()["data"]] == [kept]
    assert [job["id"] for job in member.get("/jobs?status=queued&status=cancelled").json()["data"]] == [gone, kept]
    assert member.get("/jobs?status=lost").status_code == 422


def test_cancel_pause_and_resume_are_idempotent_and_refuse_what_cannot_be(member, make_job, start_run):
    job_id = make_job(member)["id"]

    def ask(what):
        response = member.post(f"/jobs/{job_id}/{what}")
        return response.status_code, response.json().get("status")

    assert ask("pause") == (200, "paused")
    assert ask("pause") == (200, "paused")
    assert ask("resume") == (200, "queued")
    assert ask("resume") == (200, "queued")
    run = start_run(job_id)
    assert ask("pause") == (200, "pausing")
    assert ask("resume") == (200, "pausing")  # once it is paused
    assert ask("cancel") == (200, "cancelling")
    assert ask("pause") == (409, 409)
    run.finish(JobStatus.CANCELLED)
    assert ask("cancel") == (200, "cancelled")
    assert ask("resume") == (409, 409)


def test_creating_and_resuming_ring_the_doorbell(member, make_job, broker_url):
    import redis

    address, _, number = broker_url.removeprefix("redis+socket://").partition("?virtual_host=")
    with redis.Redis(unix_socket_path=address, db=int(number)) as client, client.pubsub() as heard:
        heard.psubscribe("*")
        assert heard.get_message(timeout=5)["type"] == "psubscribe"
        job_id = make_job(member)["id"]
        assert heard.get_message(timeout=5) is not None
        member.post(f"/jobs/{job_id}/pause")
        member.post(f"/jobs/{job_id}/resume")
        assert heard.get_message(timeout=5) is not None


def test_a_dry_run_answers_with_spec_queue_and_warnings_and_stores_nothing(member, caller, spec, database):
    response = member.post("/jobs/validate", json=spec)
    assert response.status_code == 200
    answer = response.json()
    assert answer["spec"] == spec
    assert answer["queue"] == NOBODY
    assert answer["warnings"] == []
    assert member.get("/jobs").json()["data"] == []

    greedy = spec | {"optim": {"prompts_per_step": 65}}
    assert "prompts_per_step" in member.post("/jobs/validate", json=greedy).json()["warnings"][0]

    member.post("/jobs", json=spec)
    viewer = caller(Role.VIEWER, member.key.identity.team_id)
    assert viewer.post("/jobs/validate", json=spec).json()["queue"]["position"] == 2


def test_the_queue_shows_the_place_of_each_job(member, caller, make_job):
    first, second = make_job(member)["id"], make_job(member)["id"]
    make_job(caller())
    listed = member.get("/queue").json()["data"]
    assert {job["id"]: job["queue"]["position"] for job in listed} == {first: 1, second: 2}
    assert {job["queue"]["code"] for job in listed} == {"no_worker"}
