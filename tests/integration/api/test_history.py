"""What a job has written: metrics, rollouts, logs, checkpoints, and several jobs side by side."""

import pytest

from trainer.spec.events import Checkpoint, Eval, Rollout, Rollouts, Started


@pytest.fixture
def run(member, make_job, start_run):
    return start_run(make_job(member, train={"steps": 500})["id"])


def test_metrics_are_columns_with_their_nulls(member, run):
    run.record(Eval(time=0, step=0, name="sums", metrics={"eval/sums/pass_at_k/1": 0.25}))
    run.step(1, reward__mean=0.5, ent__pos=None, group__histogram=[1, 0, 3])
    run.step(2, reward__mean=1.0, ent__pos=0.75, group__histogram=[0, 0, 4])
    path = f"/jobs/{run.job_id}/metrics"
    assert member.get(path).json() == {
        "keys": {
            "ent/pos": {"step": [1, 2], "value": [None, 0.75]},
            "eval/sums/pass_at_k/1": {"step": [0], "value": [0.25]},
            "group/histogram": {"step": [1, 2], "value": [[1, 0, 3], [0, 0, 4]]},
            "reward/mean": {"step": [1, 2], "value": [0.5, 1.0]},
        }
    }
    some = member.get(path, params={"keys": "reward/mean, never/measured"}).json()["keys"]
    assert some == {
        "never/measured": {"step": [], "value": []},
        "reward/mean": {"step": [1, 2], "value": [0.5, 1.0]},
    }
    by_prefix = member.get(path, params={"keys": "e*,reward/mean"}).json()["keys"]
    assert list(by_prefix) == ["ent/pos", "eval/sums/pass_at_k/1", "reward/mean"]
    ranged = member.get(path, params={"keys": "reward/mean", "from_step": 2, "to_step": 2}).json()["keys"]
    assert ranged["reward/mean"] == {"step": [2], "value": [1.0]}


def test_long_series_are_thinned_with_their_extremes_and_nulls(member, run):
    run.record(*(_step(n, **{"loss": 0.5 + 0.001 * (n % 7), "ent/pos": 0.3}) for n in range(1, 301)))
    run.record(_step(301, **{"loss": 99.0, "ent/pos": None}), _step(302, **{"loss": -99.0, "ent/pos": 0.3}))
    run.record(*(_step(n, **{"loss": 0.5, "ent/pos": 0.3}) for n in range(303, 501)))
    found = member.get(f"/jobs/{run.job_id}/metrics", params={"max_points": 20}).json()["keys"]
    loss, entropy = found["loss"], found["ent/pos"]
    assert len(loss["step"]) <= 20
    assert {99.0, -99.0} <= set(loss["value"])
    assert loss["step"] == sorted(set(loss["step"]))
    assert (loss["step"][0], loss["step"][-1]) == (1, 500)
    assert loss["value"][loss["step"].index(301)] == 99.0
    assert entropy["value"][entropy["step"].index(301)] is None
    whole = member.get(f"/jobs/{run.job_id}/metrics", params={"keys": "loss"}).json()["keys"]["loss"]
    assert whole["step"] == list(range(1, 501))


def _step(step, **metrics):
    from trainer.spec.events import Step

    return Step(time=0, step=step, metrics=metrics)


@pytest.mark.parametrize(
    "bad", ["max_points=1", "max_points=x", "from_step=-1", "to_step=99999999999", "from_step=1.5"]
)
def test_bad_ranges_are_named(member, run, bad):
    response = member.get(f"/jobs/{run.job_id}/metrics?{bad}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["query", bad.partition("=")[0]]


def test_several_jobs_are_compared_in_the_order_asked_for(member, caller, make_job, start_run):
    runs = []
    for name, reward in (("one", 0.1), ("two", 0.2)):
        job = make_job(member, algorithm={"preset": "grpo"})
        run = start_run(job["id"])
        run.step(1, reward__mean=reward)
        run.finish()
        runs.append((job["id"], reward, name))
    asked = [runs[1][0], runs[0][0]]
    found = member.get("/compare", params={"jobs": ",".join(asked), "keys": "reward/*"}).json()["jobs"]
    assert list(found) == asked
    for job_id, reward, _ in runs:
        assert found[job_id] == {
            "name": "additions",
            "status": "succeeded",
            "keys": {"reward/mean": {"step": [1], "value": [reward]}},
        }
    assert member.get("/compare").status_code == 422
    assert member.get("/compare?jobs=,").status_code == 422
    assert member.get(f"/compare?jobs={asked[0]},job_none").status_code == 404
    theirs = make_job(caller())["id"]
    assert member.get(f"/compare?jobs={asked[0]},{theirs}").status_code == 404


def test_rollouts_are_filtered_and_paged_in_order(member, run):
    def rollout(group, sample):
        return Rollout(
            group=group,
            sample=sample,
            row=7,
            prompt="1+1=",
            completion="2" if sample else "\0?",
            answer="2",
            reward=float(sample > 0),
            correct=sample > 0,
            advantage=0.5,
            tokens=2,
            truncated=False,
            entropy=None if sample else 0.25,
            bonus=0.5 if sample else None,
        )

    for step in (1, 2):
        run.record(Rollouts(time=0, step=step, rollouts=[rollout(g, s) for g in range(2) for s in range(3)]))
    path = f"/jobs/{run.job_id}/rollouts"
    places, after = [], None
    while True:
        page = member.get(path, params={"limit": 5} | ({"after": after} if after else {})).json()
        places += [(row["step"], row["group"], row["sample"]) for row in page["data"]]
        after = page["next"]
        if not page["has_more"]:
            break
    assert places == [(step, g, s) for step in (1, 2) for g in range(2) for s in range(3)]
    wrong = member.get(path, params={"step": 2, "correct": "false"}).json()["data"]
    assert [(row["step"], row["group"], row["sample"], row["correct"]) for row in wrong] == [
        (2, 0, 0, False),
        (2, 1, 0, False),
    ]
    assert wrong[0]["completion"] == "\ufffd?"
    assert wrong[0]["entropy"] == 0.25
    assert wrong[0]["bonus"] is None
    assert member.get(path, params={"after": "here"}).status_code == 422


def test_logs_are_paged_by_id(member, run):
    run.record(logs=[f"line {n}" for n in range(5)])
    first = member.get(f"/jobs/{run.job_id}/logs", params={"limit": 3}).json()
    rest = member.get(f"/jobs/{run.job_id}/logs", params={"after": first["next"]}).json()
    assert [row["line"] for row in first["data"] + rest["data"]] == [f"line {n}" for n in range(5)]
    assert not rest["has_more"]
    tail = member.get(f"/jobs/{run.job_id}/logs", params={"tail": 2}).json()
    assert ([row["line"] for row in tail["data"]], tail["has_more"]) == (["line 3", "line 4"], False)


def test_checkpoints_say_which_are_of_use(member, run):
    def checkpoint(step, score):
        return Checkpoint(
            time=0, step=step, path=f"checkpoints/{step}", manifest_sha256="a" * 64, bytes=10, score=score
        )

    started = Started(time=0, resumed_from=0, steps=9, device="cpu", parameters=1, prompts=1, prompts_dropped=0)
    run.record(started, checkpoint(2, 0.5), checkpoint(4, None))
    run.record(started.model_copy(update={"resumed_from": 2}))
    listed = member.get(f"/jobs/{run.job_id}/checkpoints").json()["data"]
    assert [(row["step"], row["score"], row["superseded_at"] is None) for row in listed] == [
        (2, 0.5, True),
        (4, None, False),
    ]
    assert all("path" not in row for row in listed)
    assert [row["step"] for row in member.get(f"/jobs/{run.job_id}/checkpoints?limit=1&after=2").json()["data"]] == [4]
