"""./dev bench load finds what is missing: each thing that could be lost, taken away from a job that is whole."""

import copy
from typing import Any

import pytest

from bench.load import problems

STEPS = 4
JOB: dict[str, Any] = {"status": "succeeded", "attempt": 1, "failure": None}
STATES = [{"type": "state", "data": {"status": status}} for status in ("queued", "running", "succeeded")]
ANSWERS: dict[str, Any] = {
    "metrics": {"keys": {"reward/mean": {"step": [1, 2, 3, 4], "value": [0, 0, 0, 0]}}},
    "events": [*STATES, *({"type": "step", "data": {"step": step}} for step in range(1, STEPS + 1))],
    "checkpoints": {"data": [{"step": 4}, {"step": 2}]},
    "logs": {"data": [{"line": "a"}]},
}


def test_nothing_is_wrong_with_a_whole_job() -> None:
    assert problems(JOB, ANSWERS, STEPS) == []


@pytest.mark.parametrize(
    ("take", "said"),
    [
        (lambda job, _: job.update(status="queued"), "queued in attempt 1"),
        (lambda job, _: job.update(attempt=2), "succeeded in attempt 2"),
        (lambda _, answers: answers["metrics"]["keys"]["reward/mean"]["step"].remove(3), "metrics of steps [1, 2, 4]"),
        (lambda _, answers: answers["metrics"]["keys"].clear(), "metrics of steps []"),
        (lambda _, answers: answers["events"].pop(), "events of steps [1, 2, 3]"),
        (lambda _, answers: answers["events"].append(answers["events"][-1]), "events of steps [1, 2, 3, 4, 4]"),
        (lambda _, answers: answers["events"].pop(1), "states ['queued', 'succeeded']"),
        (lambda _, answers: answers["checkpoints"]["data"].pop(), "checkpoints of steps [4], not [2, 4]"),
        (lambda _, answers: answers["logs"]["data"].clear(), "no line of its log"),
    ],
)
def test_what_is_missing_is_said(take: Any, said: str) -> None:
    job, answers = copy.deepcopy((JOB, ANSWERS))
    take(job, answers)
    (found,) = problems(job, answers, STEPS)
    assert said in found
