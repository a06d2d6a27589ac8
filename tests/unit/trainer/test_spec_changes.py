"""A spec with changes, against RFC 7386's own examples and against what a clone means."""

import copy

import pytest

from trainer.spec import JobSpec
from trainer.spec.changes import with_changes


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [  # appendix A of the RFC, those whose patch is an object
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_it_is_a_json_merge_patch(original, patch, result):
    before = copy.deepcopy((original, patch))
    assert with_changes(original, patch) == result
    assert (original, patch) == before


def resolved(**sections):
    spec = {
        "name": "a",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": "ds_1"},
        "reward": {"kind": "math"},
    }
    return JobSpec.model_validate(spec | sections).model_dump(mode="json")


def test_no_changes_give_the_same_spec():
    spec = resolved()
    assert JobSpec.model_validate(with_changes(spec, {})).model_dump(mode="json") == spec


def test_another_preset_brings_its_own_values_and_keeps_the_changes_beside_it():
    spec = resolved(algorithm={"preset": "asymgrpo", "beta_pos": 0.5})
    cloned = JobSpec.model_validate(with_changes(spec, {"algorithm": {"preset": "grpo", "clip_low": 0.1}}))
    fresh = JobSpec.model_validate(resolved(algorithm={"preset": "grpo", "clip_low": 0.1}))
    assert cloned.algorithm == fresh.algorithm
    same = JobSpec.model_validate(with_changes(spec, {"algorithm": {"preset": "asymgrpo", "beta_neg": 0.1}}))
    assert (same.algorithm.beta_pos, same.algorithm.beta_neg) == (0.5, 0.1)


def test_another_verifier_leaves_the_options_of_the_old_one_behind():
    spec = resolved(reward={"kind": "regex", "options": {"pattern": "#### (.*)"}})
    cloned = JobSpec.model_validate(with_changes(spec, {"reward": {"kind": "exact"}}))
    assert cloned.reward == JobSpec.model_validate(resolved(reward={"kind": "exact"})).reward
    same = JobSpec.model_validate(with_changes(spec, {"reward": {"options": {"ignore_case": True}}}))
    assert same.reward.options == {"pattern": "#### (.*)", "ignore_case": True, "full_match": False}


def test_null_is_the_default_again():
    spec = resolved(rollout={"group_size": 4}, eval=[{"name": "e", "data": "ds_2"}])
    cloned = JobSpec.model_validate(with_changes(spec, {"rollout": {"group_size": None}, "eval": None}))
    assert (cloned.rollout.group_size, cloned.eval) == (8, [])
