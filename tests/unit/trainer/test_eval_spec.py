"""What an evaluation takes from a run's spec, and what it leaves there."""

import sys

import pytest

from trainer.eval_checkpoint import Subject, evaluation_spec, parse_arguments
from trainer.spec import JobSpec


def test_gpus_that_only_generated_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    run = JobSpec.model_validate(
        {
            "name": "a run",
            "model": {"id": "hf/a/b"},
            "data": {"train": "train.jsonl"},
            "reward": {"kind": "math"},
            "rollout": {"engine": "vllm", "max_new_tokens": 40, "vllm": {"gpus": 2, "enforce_eager": True}},
            "resources": {"gpus": 8},
        }
    )
    monkeypatch.setattr(sys, "argv", ["eval", "runs/first", "--data", "test.jsonl"])
    spec = evaluation_spec(parse_arguments(), Subject("hf/a/b", None, 3, run.model_dump(mode="json")))
    assert (spec.rollout.engine, spec.rollout.max_new_tokens) == ("auto", 40)
    assert (spec.rollout.vllm.gpus, spec.rollout.vllm.enforce_eager) == (0, True)
