"""Several jobs side by side: what they are, what time they took, the prompts they share, and their metrics as CSV."""

import csv
import io

import pytest

from api.comparing import export
from store.models import Rollout
from trainer.spec.events import Step


@pytest.fixture
def runs(member, make_job, start_run):
    """Two runs of different lengths on the same data."""
    first = start_run(make_job(member, train={"steps": 500}, seed=1)["id"])
    second = start_run(member.post(f"/jobs/{first.job_id}/clone", json={"seed": 2}).json()["id"])
    for run, last in ((first, 300), (second, 5)):
        run.record(*(_step(number) for number in range(1, last + 1)))
    return first, second


def _step(number):
    entropy = {"entropy/informative": None} if number == 2 else {}
    return Step(time=0, step=number, metrics={"perf/step_seconds": 0.5, "reward/mean": number / 1000, **entropy})


def ids(runs):
    return ",".join(run.job_id for run in runs)


def test_runs_come_with_their_specs_and_the_keys_of_what_they_measured(member, runs):
    answer = member.get("/compare/runs", params={"jobs": ids(runs)}).json()["jobs"]
    assert list(answer) == [run.job_id for run in runs]
    assert [run["spec"]["seed"] for run in answer.values()] == [1, 2]
    for run in answer.values():
        assert run["keys"] == ["entropy/informative", "perf/step_seconds", "reward/mean"]
        assert run["progress"]["steps"] == 500


def test_a_clock_adds_up_the_time_of_the_steps(member, runs):
    first, second = member.get("/compare/clock", params={"jobs": ids(runs)}).json()["jobs"].values()
    # Chunks of 128 steps, then every step of those behind them.
    assert first["step"][:2] == [127, 255]
    assert first["step"][-1] == 300
    assert first["trained_seconds"][:2] == [63.5, 127.5]
    assert first["trained_seconds"][-1] == 150
    assert second["step"] == [1, 2, 3, 4, 5]
    assert second["trained_seconds"] == [0.5, 1.0, 1.5, 2.0, 2.5]
    for clock in (first, second):
        assert len(clock["wall_seconds"]) == len(clock["step"])
        assert clock["wall_seconds"] == sorted(clock["wall_seconds"])
    few = member.get("/compare/clock", params={"jobs": ids(runs), "points": 3}).json()["jobs"][runs[0].job_id]
    assert (len(few["step"]) <= 3, few["step"][-1], few["trained_seconds"][-1]) == (True, 300, 150)


def test_thinned_to_the_same_steps_runs_of_one_length_have_the_same_ones(member, runs):
    asked = {"jobs": ids(runs), "keys": "reward/mean", "max_points": 40, "thinned": "same_steps"}
    long = member.get("/compare", params=asked).json()["jobs"][runs[0].job_id]["keys"]["reward/mean"]
    assert long["step"] == [1, *range(8, 300, 8), 300]
    assert long["value"] == [step / 1000 for step in long["step"]]
    zoomed = member.get("/compare", params={**asked, "from_step": 100, "to_step": 110}).json()
    assert zoomed["jobs"][runs[0].job_id]["keys"]["reward/mean"]["step"] == list(range(100, 111))
    assert zoomed["jobs"][runs[1].job_id]["keys"]["reward/mean"]["step"] == []


def test_common_prompts_are_those_that_both_were_given(member, runs):
    with runs[0].database.transaction() as session:
        for run, shown in zip(runs, ({7: [True, True], 8: [False, True]}, {8: [False, False], 9: [True]}), strict=True):
            for row, outcomes in shown.items():
                for sample, correct in enumerate(outcomes):
                    session.add(_rollout(run.job_id, row, sample, correct))
    answer = member.get("/compare/prompts", params={"jobs": ids(runs)}).json()
    assert answer["prompts"] == [
        {"row": 8, "prompt": "prompt 8", "samples": [2, 2], "correct": [1, 0], "reward": [0.5, 0.0]}
    ]
    assert answer["has_more"] is False
    later = member.get("/compare/prompts", params={"jobs": ids(runs), "from_step": 4}).json()
    assert later["prompts"] == []


def _rollout(job_id, row, sample, correct):
    texts = {"prompt": f"prompt {row}", "completion": "c", "answer": "a"}
    numbers = {"reward": float(correct), "advantage": 0.0, "tokens": 1, "attempt": 1}
    place = {"job_id": job_id, "step": 3, "group_index": row, "sample_index": sample, "row": row}
    return Rollout(**place, **texts, **numbers, correct=correct, truncated=False)


def test_runs_on_other_data_have_no_common_prompts(member, make_job):
    one, other = make_job(member), make_job(member)
    refused = member.get("/compare/prompts", params={"jobs": f"{one['id']},{other['id']}"})
    assert refused.status_code == 422
    assert "different data sets" in refused.text


def test_every_step_is_exported(member, runs, monkeypatch):
    monkeypatch.setattr(export, "STEPS_AT_ONCE", 7)
    member.request("PATCH", f"/jobs/{runs[1].job_id}", json={"name": "=HYPERLINK(1)"})
    answer = member.get("/compare/export", params={"jobs": ids(runs), "keys": "reward/mean,entropy/informative"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["step"]) for row in rows] == [*range(1, 301), *range(1, 6)]
    assert [float(row["reward/mean"]) for row in rows[:300]] == [step / 1000 for step in range(1, 301)]
    assert [row["entropy/informative"] for row in rows[:3]] == ["", "null", ""]
    assert {row["name"] for row in rows[300:]} == {"'=HYPERLINK(1)"}
    everything = member.get("/compare/export", params={"jobs": runs[1].job_id}).text
    assert everything.startswith("job_id,name,step,attempt,at,entropy/informative,perf/step_seconds,reward/mean\r\n")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"])
def test_no_name_is_a_formula(name):
    assert export.inert(name) == f"'{name}"
    assert export.inert("a=1") == "a=1"
