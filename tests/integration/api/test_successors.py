"""Cloning, retrying and deleting jobs over HTTP."""

import pytest

from store.status import JobStatus
from trainer.spec import events

FAILURE = {"kind": "infrastructure", "code": "attempt_crashed", "message": "the attempt crashed", "evidence": []}


@pytest.fixture
def failed(member, make_job, start_run):
    """A job that failed in step 5 and has a checkpoint of step 4."""
    job = make_job(member, train={"steps": 9})
    run = start_run(job["id"])
    for number in range(1, 6):
        run.step(number, reward__mean=number / 10)
    run.record(events.Checkpoint(time=0, step=4, path="checkpoints/4", manifest_sha256="0" * 64, bytes=7, score=None))
    run.finish(JobStatus.FAILED, FAILURE)
    return job


def test_a_clone_is_a_new_job_with_changes(member, failed):
    changes = {"name": "again", "algorithm": {"beta_neg": 0.2}, "seed": 3}
    response = member.post(f"/jobs/{failed['id']}/clone", json=changes)
    clone = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/jobs/{clone['id']}"
    assert (clone["cloned_from"], clone["retry_of"], clone["name"]) == (failed["id"], None, "again")
    assert (clone["status"], clone["progress"]["step"]) == ("queued", 0)
    expected = {**failed["spec"], "name": "again", "seed": 3}
    expected["algorithm"] = {**failed["spec"]["algorithm"], "beta_neg": 0.2}
    assert clone["spec"] == expected
    assert member.post(f"/jobs/{failed['id']}/clone").json()["spec"] == failed["spec"], "no body: the same again"


def test_a_clones_idempotency_key_is_honoured(member, failed):
    key = {"Idempotency-Key": "once"}
    first = member.post(f"/jobs/{failed['id']}/clone", json={"seed": 3}, headers=key)
    again = member.post(f"/jobs/{failed['id']}/clone", json={"seed": 3}, headers=key)
    other = member.post(f"/jobs/{failed['id']}/clone", json={"seed": 4}, headers=key)
    assert [response.status_code for response in (first, again, other)] == [201, 200, 409]
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    ("changes", "loc"),
    [
        ({"algorithm": {"beta_pos": "x"}}, ["body", "algorithm", "beta_pos"]),
        ({"foo": 1}, ["body", "foo"]),
        ({"name": "a\0b"}, ["body", "name"]),
        ({"eval": 3}, ["body", "eval"]),
    ],
)
def test_a_clone_with_wrong_changes_is_refused_by_field(member, failed, changes, loc):
    response = member.post(f"/jobs/{failed['id']}/clone", json=changes)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [loc]
    assert len(member.get("/jobs").json()["data"]) == 1


def test_a_clone_on_data_that_is_not_there_is_404(member, failed):
    response = member.post(f"/jobs/{failed['id']}/clone", json={"data": {"train": "ds_none"}})
    assert response.status_code == 404
    assert response.json()["errors"][0]["loc"] == ["body", "data", "train"]
    assert member.post(f"/jobs/{failed['id']}/clone", json=[1]).status_code == 422


def test_a_retry_goes_on_in_a_new_job(member, failed):
    response = member.post(f"/jobs/{failed['id']}/retry")
    retry = response.json()
    assert response.status_code == 201
    assert (retry["retry_of"], retry["status"], retry["progress"]["step"]) == (failed["id"], "queued", 4)
    assert retry["spec"] == failed["spec"]
    kept = member.get(f"/jobs/{retry['id']}/metrics?keys=reward/mean").json()["keys"]["reward/mean"]
    assert kept == {"step": [1, 2, 3, 4], "value": [0.1, 0.2, 0.3, 0.4]}
    again = member.post(f"/jobs/{failed['id']}/retry")
    assert (again.status_code, again.json()["id"]) == (200, retry["id"])
    assert member.get(f"/jobs/{failed['id']}").json()["status"] == "failed"
    assert member.post(f"/jobs/{retry['id']}/retry").status_code == 409


def test_a_deleted_job_is_gone(member, failed, caller):
    stranger = caller()
    assert stranger.delete(f"/jobs/{failed['id']}").status_code == 404
    assert member.delete(f"/jobs/{failed['id']}").status_code == 204
    assert member.get("/jobs").json()["data"] == []
    for path in ("", "/metrics", "/events", "/logs", "/rollouts", "/checkpoints"):
        assert member.get(f"/jobs/{failed['id']}{path}").status_code == 404
    assert member.get(f"/compare?jobs={failed['id']}&keys=reward/mean").status_code == 404
    assert member.delete(f"/jobs/{failed['id']}").status_code == 404


def test_a_job_that_has_not_ended_cannot_be_deleted(member, make_job):
    job = make_job(member)
    response = member.delete(f"/jobs/{job['id']}")
    assert response.status_code == 409
    assert "cancel it" in response.json()["detail"]


def test_a_job_that_a_retry_needs_cannot_be_deleted(member, failed):
    retry = member.post(f"/jobs/{failed['id']}/retry").json()
    response = member.delete(f"/jobs/{failed['id']}")
    assert response.status_code == 409
    assert retry["id"] in response.json()["detail"]
