"""What a dry run tells of a job's cost, and what a preflight told of it."""

import pytest

from store import teams
from trainer.spec.events import NoGradient, Preflight, PreflightReport, VerifierSeconds


@pytest.fixture
def ran(make_job, start_run):
    """ran(caller, seconds_per_step, **sections): a job that ran at this pace; its id."""

    def run(caller, seconds, **sections):
        job = make_job(caller, **sections)
        attempt = start_run(job["id"])
        attempt.step(1, perf__step_seconds=seconds)
        attempt.finish()
        return job["id"]

    return run


@pytest.fixture
def validate(make_dataset, make_spec):
    def ask(caller, **sections):
        spec = make_spec(make_dataset(caller.key.identity).id, **sections).model_dump(mode="json")
        answer = caller.post("/jobs/validate", json=spec)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


def test_nothing_is_told_of_a_model_that_never_ran(member, caller, ran, validate):
    ran(caller(), 2.0)  # another team's run tells nothing
    assert validate(member)["estimate"] is None


def test_the_median_of_the_last_runs(member, ran, validate):
    runs = [ran(member, seconds) for seconds in (9.0, 3.0, 1.0, 2.0, 2.5, 50.0)]
    estimate = validate(member, train={"steps": 200}, resources={"gpus": 0})["estimate"]
    assert (estimate["seconds_per_step"], estimate["seconds"], estimate["gpu_hours"]) == (2.5, 500.0, 0.0)
    assert estimate["runs"] == runs[:0:-1]
    assert estimate["scaled"] is False


def test_the_runs_most_like_it_count_and_are_scaled_by_their_rollouts(member, ran, validate):
    for _ in range(5):
        ran(member, 1.0, optim={"prompts_per_step": 2}, rollout={"group_size": 4})
    ran(member, 100.0, optim={"prompts_per_step": 64}, rollout={"group_size": 64})
    estimate = validate(
        member, optim={"prompts_per_step": 4}, rollout={"group_size": 8}, train={"steps": 10}, resources={"gpus": 2}
    )["estimate"]
    assert estimate["seconds_per_step"] == 4.0
    assert estimate["gpu_hours"] == pytest.approx(2 * 40 / 3600)
    assert estimate["scaled"] is True


def test_runs_with_the_same_gpus_go_first(member, ran, validate):
    ran(member, 1.0, resources={"gpus": "auto"})
    same = ran(member, 8.0, resources={"gpus": 0})
    estimate = validate(member, resources={"gpus": 0})["estimate"]
    assert (estimate["seconds_per_step"], estimate["runs"]) == (8.0, [same])


def test_limits_that_it_would_meet_are_warned_of(member, ran, validate, database, make_job):
    ran(member, 36.0)
    job = make_job(member)
    with database.transaction() as session:
        team = teams.find(session, member.key.identity.team_id)
        teams.set_limits(session, team, {"queued_jobs": 1, "gpu_hours": 1})
    warnings = validate(member, train={"steps": 1000}, resources={"gpus": 1, "max_runtime": 3600})["warnings"]
    assert warnings[0].startswith("it would be refused now: the team has 1 jobs in the queue")
    assert warnings[1].startswith("it takes about 10 GPU-hours, and of the team's 1 this month 1 are left")
    assert warnings[2] == ("resources.max_runtime (3600 s) ends it at about step 100 of 1000: it takes about 36000 s")
    member.post(f"/jobs/{job['id']}/cancel")
    assert validate(member, train={"steps": 10}, resources={"gpus": 0})["warnings"] == []


def test_a_job_shows_its_preflight(member, make_job, start_run):
    job = make_job(member, preflight=True)
    assert job["spec"]["preflight"] == {"prompts": 32, "samples": None}
    assert job["preflight"] is None
    report = PreflightReport(
        summary="25.0% of the rollouts are correct",
        prompts=2,
        samples=4,
        accuracy=0.25,
        histogram=[1, 0, 1, 0, 0],
        no_gradient=NoGradient(share=0.5, low=0.1, high=0.9, groups=2),
        truncated=0.0,
        length_mean=3.5,
        length_max=5,
        verifier_errors={"timeout": 1},
        verifier_seconds=VerifierSeconds(median=0.1, p95=0.2, max=0.3),
        rollout_seconds=1.0,
        reward_seconds=0.5,
        step_seconds=6.0,
    )
    start_run(job["id"]).record(Preflight(time=0.0, report=report))
    shown = member.get(f"/jobs/{job['id']}").json()
    assert shown["preflight"] == report.model_dump()
    event = member.get(f"/jobs/{job['id']}/events").json()["data"][-1]
    assert (event["type"], event["message"]) == ("preflight", "preflight: 25.0% of the rollouts are correct")
    assert event["data"]["report"] == report.model_dump()
