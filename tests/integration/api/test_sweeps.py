"""Sweeps over HTTP, with a worker's side played by hand: making, steering, standing, and the rules of the plan."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from store import leases, sweep_rules, workers
from store.access import Role
from store.status import JobStatus
from tests.integration.api.conftest import Run
from trainer.spec import events as trainer_events


@pytest.fixture
def plan(make_dataset, make_spec):
    """plan(caller, **changes): two betas, two seeds."""

    def make(caller, **changes):
        dataset = make_dataset(caller.key.identity)
        base = make_spec(dataset.id).model_dump(mode="json", exclude_unset=True)
        search = {"kind": "grid", "parameters": {"algorithm.beta_pos": [0.0, 0.9]}}
        return {"name": "betas", "base": base, "search": search, "seeds": [0, 1], **changes}

    return make


class Worker(Run):
    """One worker that claims whatever is next."""

    def __init__(self, database):
        self.database = database
        with database.transaction() as session:
            self.id = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=64, version="0").id

    def next(self):
        with self.database.transaction() as session:
            claim = leases.claim(session, self.id, free_gpus=0, free_cpu_slots=64, lease_seconds=60)
        run = object.__new__(Run)
        run.database, run.job_id, run.attempt, run.batch = self.database, claim.job_id, claim.attempt, 0
        return run


@pytest.fixture
def worker(database):
    return Worker(database)


def keep_rules(database):
    with database.transaction() as session:
        sweep_rules.keep_rules(session)


def measure(run, values, first=1):
    run.record(
        *(
            trainer_events.Step(time=0.0, step=first + offset, metrics={"group/accuracy": value})
            for offset, value in enumerate(values)
        )
    )


def test_a_sweep_is_its_jobs_and_their_standing(member, plan, worker):
    made = member.post("/sweeps", json=plan(member))
    assert made.status_code == 201, made.text
    sweep = made.json()
    assert made.headers["Location"] == f"/sweeps/{sweep['id']}"
    assert (sweep["members"], sweep["statuses"]) == (4, {"queued": 4})
    assert [(job["point"], job["seed"]) for job in sweep["jobs"]] == [
        ({"algorithm.beta_pos": beta}, seed) for beta in (0.0, 0.9) for seed in (0, 1)
    ]
    first = member.get(f"/jobs/{sweep['jobs'][2]['job_id']}").json()
    assert first["spec"]["algorithm"]["beta_pos"] == 0.9
    assert first["tags"] == ["sweep:betas"]

    for values in ([0.1, 0.2], [0.1, None], [0.5, 0.3], [0.7, 0.5]):
        run = worker.next()
        measure(run, values)
    measure(run, [0.6], first=3)
    run.finish()
    found = member.get(f"/sweeps/{sweep['id']}").json()
    assert found["statuses"] == {"running": 3, "succeeded": 1}
    assert [(job["last"], job["best"], job["best_step"]) for job in found["jobs"]] == [
        (0.2, 0.2, 2),
        (0.1, 0.1, 1),
        (0.3, 0.5, 1),
        (0.6, 0.7, 1),
    ]
    best, other = found["combinations"]
    assert (best["point"], best["members"], best["measured"]) == ({"algorithm.beta_pos": 0.9}, 2, 2)
    # Means over the seeds, and what two values deviate: half their difference times the square root of 2.
    assert best["best"] == pytest.approx(0.6)
    assert best["best_spread"] == pytest.approx(0.1 * 2**0.5)
    assert best["last"] == pytest.approx(0.45)
    assert other["best"] == pytest.approx(0.15)
    (listed,) = member.get("/sweeps").json()["data"]
    assert (listed["id"], listed["members"], listed["statuses"]) == (sweep["id"], 4, found["statuses"])


def test_a_metric_whose_best_is_low_is_ordered_by_its_goal(member, plan, worker):
    made = member.post("/sweeps", json=plan(member, seeds=[0], goal="min")).json()
    for values in ([0.1, 0.4], [0.3, 0.2]):
        measure(worker.next(), values)
    found = member.get(f"/sweeps/{made['id']}").json()
    assert [job["best"] for job in found["jobs"]] == [0.1, 0.2]
    assert [each["point"]["algorithm.beta_pos"] for each in found["combinations"]] == [0.0, 0.9]


def test_all_jobs_are_made_or_none(member, plan, database):
    wrong = plan(member, search={"kind": "list", "points": [{"optim.lr": 1e-3}, {"algorithm.beta_poz": 1.0}]})
    refused = member.post("/sweeps", json=wrong)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["loc"] == ["body", "search", "points", 1, "algorithm.beta_poz"]
    missing = plan(member)
    missing["base"]["data"]["train"] = "ds_01jz8x6v5p3q2r1s0t9w8y7zab"
    refused = member.post("/sweeps", json=missing)
    assert refused.status_code == 404
    assert refused.json()["errors"][0]["loc"] == ["body", "base", "data", "train"]
    many = {"kind": "grid", "parameters": {"optim.lr": [i / 1e4 for i in range(1, 101)], "seed": [1]}}
    assert member.post("/sweeps", json=plan(member, search=many)).status_code == 422
    assert member.get("/jobs").json()["data"] == []
    assert member.get("/sweeps").json()["data"] == []


def test_a_queue_that_is_too_short_takes_no_job_of_it(member, plan, database):
    from store.models import Team

    with database.transaction() as session:
        session.get_one(Team, member.key.identity.team_id).max_queued_jobs = 3
    refused = member.post("/sweeps", json=plan(member))
    assert refused.status_code == 429
    assert "the sweep has 4 jobs, and none was made" in refused.json()["detail"]
    assert member.get("/jobs").json()["data"] == []


def test_the_same_key_and_plan_are_one_sweep(member, plan):
    wanted = plan(member)
    answers = [member.post("/sweeps", json=wanted, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    other = member.post("/sweeps", json={**wanted, "seeds": [7]}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
    assert len(member.get("/jobs").json()["data"]) == 4


def test_a_repeated_request_finds_its_sweep_though_the_data_set_is_gone(member, plan):
    wanted, key = plan(member), {"Idempotency-Key": "kept"}
    sweep = member.post("/sweeps", json=wanted, headers=key).json()
    member.post(f"/sweeps/{sweep['id']}/cancel")
    assert member.delete(f"/datasets/{wanted['base']['data']['train']}").status_code == 204
    again = member.post("/sweeps", json=wanted, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, sweep["id"])


def test_one_key_in_many_requests_at_once_is_one_sweep(member, plan):
    wanted = plan(member)
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: member.post("/sweeps", json=wanted, headers={"Idempotency-Key": "k"}), range(6))
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(member.get("/jobs").json()["data"]) == 4


def test_a_sweep_is_cancelled_as_one_and_goes_on_as_one(member, plan, worker, database):
    sweep = member.post("/sweeps", json=plan(member)).json()
    done, failed, running = worker.next(), worker.next(), worker.next()
    done.finish()
    failed.finish(JobStatus.FAILED, {"kind": "user", "code": "no_rows", "message": "no rows left", "evidence": []})
    ended = [member.post(f"/sweeps/{sweep['id']}/cancel").json() for _ in range(2)][1]
    assert ended["statuses"] == {"succeeded": 1, "failed": 1, "cancelling": 1, "cancelled": 1}
    assert ended["ended_because"] == "cancelled"
    early = member.post(f"/sweeps/{sweep['id']}/resume")
    assert early.status_code == 409
    assert running.job_id in early.json()["detail"]
    assert member.get(f"/sweeps/{sweep['id']}").json()["ended_because"] == "cancelled"
    running.finish(JobStatus.CANCELLED)

    resumed = [member.post(f"/sweeps/{sweep['id']}/resume").json() for _ in range(2)][1]
    assert resumed["statuses"] == {"succeeded": 1, "queued": 3}
    assert resumed["ended_because"] is None
    assert resumed["jobs"][0]["job_id"] == sweep["jobs"][0]["job_id"]
    retried = member.get(f"/jobs/{resumed['jobs'][1]['job_id']}").json()
    assert retried["retry_of"] == failed.job_id
    assert len(member.get("/jobs").json()["data"]) == 4 + 3


def test_a_sweep_is_held_and_let_go(member, plan, worker):
    sweep = member.post("/sweeps", json=plan(member)).json()
    running = worker.next()
    held = [member.post(f"/sweeps/{sweep['id']}/pause").json() for _ in range(2)][1]
    assert held["statuses"] == {"pausing": 1, "paused": 3}
    running.finish(JobStatus.PAUSED)
    assert member.post(f"/sweeps/{sweep['id']}/resume").json()["statuses"] == {"queued": 4}


def test_a_deleted_job_leaves_its_place(member, plan, worker):
    sweep = member.post("/sweeps", json=plan(member, seeds=[0])).json()
    member.post(f"/sweeps/{sweep['id']}/cancel")
    assert member.delete(f"/jobs/{sweep['jobs'][0]['job_id']}").status_code == 204
    found = member.get(f"/sweeps/{sweep['id']}").json()
    assert [job["job_id"] for job in found["jobs"]] == [None, sweep["jobs"][1]["job_id"]]
    assert found["jobs"][0]["point"] == {"algorithm.beta_pos": 0.0}
    assert found["statuses"] == {"cancelled": 1}


def test_another_teams_sweep_is_not_there(member, caller, plan):
    sweep = member.post("/sweeps", json=plan(member)).json()
    stranger = caller(Role.ADMIN)
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume")):
        assert stranger.request(method, f"/sweeps/{sweep['id']}{path}").status_code == 404
    assert stranger.get("/sweeps").json()["data"] == []
    viewer = caller(Role.VIEWER, member.key.identity.team_id)
    assert viewer.get(f"/sweeps/{sweep['id']}").status_code == 200
    assert viewer.post(f"/sweeps/{sweep['id']}/cancel").status_code == 403


def test_a_budget_ends_what_has_not_ended(member, plan, worker, database):
    from store.models import Job

    sweep = member.post("/sweeps", json=plan(member, budget={"hours": 0.5})).json()
    runs = [worker.next(), worker.next()]
    keep_rules(database)
    assert member.get(f"/sweeps/{sweep['id']}").json()["statuses"] == {"running": 2, "queued": 2}
    with database.transaction() as session:
        # Half an hour on the CPU, and a quarter of one with two GPUs.
        session.get_one(Job, runs[0].job_id).used_seconds = 900
        session.get_one(Job, runs[1].job_id).used_seconds = 450
        session.get_one(Job, runs[1].job_id).gpu_seconds = 900
    keep_rules(database)
    found = member.get(f"/sweeps/{sweep['id']}").json()
    assert found["statuses"] == {"cancelling": 2, "cancelled": 2}
    assert found["ended_because"] == "its budget of 0.5 hours is used up (0.5)"
    assert found["used_hours"] == pytest.approx(0.5)
    for run in runs:
        run.finish(JobStatus.CANCELLED)
    again = member.post(f"/sweeps/{sweep['id']}/resume")
    assert again.status_code == 409
    assert "budget" in again.json()["detail"]


def test_the_median_rule_ends_a_member_that_does_worse_than_most_did(member, plan, worker, database):
    search = {"kind": "grid", "parameters": {"optim.lr": [1e-5, 1e-4, 1e-3, 1e-2]}}
    rule = {"after_steps": 4, "least_members": 3}
    sweep = member.post("/sweeps", json=plan(member, search=search, seeds=[0], early_stopping=rule)).json()
    runs = [worker.next() for _ in range(4)]
    for run, value in zip(runs, (0.2, 0.4, 0.6, 0.3), strict=True):
        measure(run, [value] * 3)
    keep_rules(database)
    assert member.get(f"/sweeps/{sweep['id']}").json()["statuses"] == {"running": 4}, "nobody has done 4 steps"
    # The medians of the others' means after step 4: 0.4 for the first, 0.3 for the two in the middle, 0.4 for the last,
    # whose best is above it though its mean is not.
    for run, value in zip(runs, (0.2, 0.4, 0.6, 0.45), strict=True):
        measure(run, [value], first=4)
    for _ in range(2):
        keep_rules(database)
    found = member.get(f"/sweeps/{sweep['id']}").json()
    assert [job["status"] for job in found["jobs"]] == ["cancelling", "running", "running", "running"]
    assert found["jobs"][0]["stopped_because"] == (
        "after step 4 its best group/accuracy was 0.2; the median of the means of 3 others up to there is 0.4"
    )
    # It stays ended when the sweep goes on.
    runs[0].finish(JobStatus.CANCELLED)
    resumed = member.post(f"/sweeps/{sweep['id']}/resume").json()
    assert resumed["statuses"] == {"cancelled": 1, "running": 3}
