"""A look before the first step: it changes nothing of the run, and ends one that could learn nothing."""

import json
from pathlib import Path

import pytest

from trainer.spec.events import EXIT_USER_ERROR


@pytest.fixture
def spec(tmp_path):
    """spec(answer=None, **sections): a short run over additions; every answer is `answer` if that is given."""

    def make(answer=None, **sections):
        rows = [{"prompt": f"{a}+{b}=", "answer": answer or str(a + b)} for a in range(1, 7) for b in range(1, 7)]
        (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return {
            "name": "n",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": str(tmp_path / "sums.jsonl")},
            "reward": {"kind": "numeric"},
            "rollout": {"group_size": 4, "max_new_tokens": 6},
            "optim": {"prompts_per_step": 4, "lr": 1e-4},
            "train": {"steps": 2},
            **sections,
        }

    return make


def test_a_run_is_the_same_with_and_without(new_run, tmp_path, spec):
    without, with_one = new_run(tmp_path / "without"), new_run(tmp_path / "with")
    assert not [event for event in without.start(spec()) if event.type == "preflight"]
    events = with_one.start(spec(preflight={"prompts": 8, "samples": 8}))
    assert [event.type for event in events[:3]] == ["started", "preflight", "step"]
    assert with_one.metrics() == without.metrics()
    weights = [each.checkpoint(2) / "model" / "model.safetensors" for each in (without, with_one)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_report(run, spec):
    [report] = [event.report for event in run.start(spec(preflight=True)) if event.type == "preflight"]
    assert (report.prompts, report.samples) == (32, 4)
    assert sum(report.histogram) == 32
    assert report.accuracy == sum(c * count for c, count in enumerate(report.histogram)) / (32 * 4)
    assert report.no_gradient.groups == 32
    assert report.no_gradient.share == (report.histogram[0] + report.histogram[4]) / 32
    assert 0 < report.no_gradient.low < report.no_gradient.share < report.no_gradient.high < 1
    assert report.verifier_errors == {}
    assert 0 <= report.verifier_seconds.median <= report.verifier_seconds.p95 <= report.verifier_seconds.max
    assert f"{report.accuracy:.1%} of the rollouts are correct" in report.summary


def test_there_may_be_fewer_prompts_than_it_asks_for(run, spec):
    events = run.start(spec(preflight={"prompts": 100}))
    assert [event.report.prompts for event in events if event.type == "preflight"] == [36]


def test_a_job_that_cannot_learn_ends_before_its_first_step(run, spec):
    events = run.start(spec("12345678", preflight=True))
    assert run.codes == [EXIT_USER_ERROR]
    assert [event.type for event in events] == ["started", "preflight", "failed"]
    failed = events[-1]
    assert (failed.kind, failed.code) == ("user", "preflight_none_solved")
    assert "would learn nothing: not one rollout earns a reward" in failed.message
    assert failed.evidence[0] == events[1].report.summary
    assert len(failed.evidence) == 4
    assert all("answer '12345678'" in line and "(reward 0)" in line for line in failed.evidence[1:])


def test_answers_that_are_cut_are_named_as_the_cause(run, spec):
    job = spec(preflight=True, rollout={"group_size": 4, "max_new_tokens": 1})
    job["reward"] = {"kind": "exact"}
    rows = [{"prompt": f"{a}+99=", "answer": str(a + 99)} for a in range(1, 9)]
    Path(job["data"]["train"]).write_text("\n".join(map(json.dumps, rows)))
    failed = run.start(job)[-1]
    assert failed.code == "preflight_none_solved"
    assert "100% are cut at rollout.max_new_tokens" in failed.message


def test_a_resumed_run_does_not_look_again(run, spec):
    run.start(spec(preflight=True))
    again = run.start(spec(preflight=True, train={"steps": 3}), "--resume", str(run.checkpoint(2)))
    assert [event.type for event in again if event.type in ("preflight", "step")] == ["step"]
