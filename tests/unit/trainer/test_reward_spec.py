"""The `reward` section: kinds, options by kind, and errors that name the option."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from trainer.spec import JobSpec
from trainer.spec.job import RewardSpec
from trainer.spec.reward import Kind, parse_kind, resolve_options, row_verifier

MINIMAL = {"name": "x", "model": {"id": "builtin/tiny-arith"}, "data": {"train": "ds_1"}}


def job(**reward: object) -> JobSpec:
    return JobSpec.model_validate({**MINIMAL, "reward": reward})


def errors(**reward: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        job(**reward)
    return {".".join(map(str, each["loc"])): each["msg"] for each in caught.value.errors()}


@pytest.mark.parametrize(
    "reward",
    [
        {"kind": "math"},
        {"kind": "numeric"},
        {"kind": "numeric", "options": {"tolerance": "1e-3"}},
        {"kind": "exact", "options": {"ignore_case": True}},
        {"kind": "regex"},
        {"kind": "regex", "options": {"pattern": r"#### (\d+)", "full_match": False}},
        {"kind": "choice", "options": {"choices": "ABCD"}},
        {"kind": "reasoning_gym:countdown"},
        {"kind": "http:judge", "options": {"batch_size": 8}},
        {"kind": "plugin:mine.v2", "options": {"weight": 0.5, "words": ["a", {"b": None}]}},
        {"kind": "python", "options": {"code": "def score(response, answer, metadata):\n    return 1.0"}},
        {"kind": "exact", "bonus": [{"kind": "length", "weight": 0.5, "start": 100}]},
        {"kind": "exact", "bonus": [{"kind": "format", "weight": -1, "pattern": "<answer>"}]},
    ],
)
def test_a_resolved_reward_resolves_to_itself(reward):
    spec = JobSpec.model_validate({**MINIMAL, "algorithm": {"preset": "grpo"}, "reward": reward})
    resolved = spec.model_dump(mode="json")
    assert JobSpec.model_validate(resolved) == spec
    assert JobSpec.model_validate(resolved).model_dump(mode="json") == resolved
    assert set(reward.get("options", {})) <= set(resolved["reward"]["options"])


def test_defaults_are_filled_in():
    assert job(kind="choice").reward.options == {"choices": "ABCDE"}
    assert job(kind="exact").reward.options == {
        "match": "equal",
        "ignore_case": False,
        "normalize_whitespace": True,
    }
    assert job(kind="math").reward.options == {}
    assert isinstance(job(kind="math").reward, RewardSpec)


@pytest.mark.parametrize(
    ("reward", "field", "says"),
    [
        ({"kind": "vibes"}, "reward.kind", "unknown verifier 'vibes'; one of: math, numeric, exact, regex, choice"),
        ({"kind": "math:hard"}, "reward.kind", "unknown verifier"),
        ({"kind": "numeric", "options": {"tolerance": -1}}, "reward.options.tolerance", "greater than or equal to 0"),
        ({"kind": "numeric", "options": {"tolerance": float("nan")}}, "reward.options.tolerance", "finite"),
        ({"kind": "exact", "options": {"tolerance": 1}}, "reward.options.tolerance", "not permitted"),
        ({"kind": "exact", "options": {"ignore_case": "yes"}}, "reward.options.ignore_case", "boolean"),
        ({"kind": "regex", "options": {"pattern": "(?=a)"}}, "reward.options.pattern", "lookaround"),
        ({"kind": "regex", "options": {"pattern": ""}}, "reward.options.pattern", "at least 1 character"),
        ({"kind": "choice", "options": {"choices": "AA"}}, "reward.options.choices", "twice"),
        ({"kind": "choice", "options": []}, "reward.options", "dictionary"),
        ({"kind": "math", "options": {"x": 1}}, "reward.options.x", "not permitted"),
        ({"kind": "math", "colour": 1}, "reward.colour", "not permitted"),
        ({"kind": "reasoning_gym"}, "reward.kind", "reasoning_gym:TASK, http:NAME, plugin:NAME, python"),
        ({"kind": "http:https://judge/score"}, "reward.kind", "unknown verifier"),
        ({"kind": "http:"}, "reward.kind", "unknown verifier"),
        ({"kind": "plugin:../x"}, "reward.kind", "unknown verifier"),
        ({"kind": "http:judge", "options": {"url": "http://x"}}, "reward.options.url", "not permitted"),
        ({"kind": "http:judge", "options": {"batch_size": 0}}, "reward.options.batch_size", "greater than or equal"),
        ({"kind": "plugin:mine", "options": {"metadata": 1}}, "reward.options", "cannot be an argument"),
        ({"kind": "plugin:mine", "options": {"a b": 1}}, "reward.options", "cannot be an argument"),
        ({"kind": "python"}, "reward.options.code", "required"),
        ({"kind": "python", "options": {"code": ""}}, "reward.options.code", "at least 1"),
        ({"kind": "exact", "bonus": [{"kind": "luck"}]}, "reward.bonus.0", "'length', 'format'"),
        (
            {"kind": "exact", "bonus": [{"kind": "length", "weight": 0, "start": 1}]},
            "reward.bonus.0.length.weight",
            "greater than 0",
        ),
        (
            {"kind": "exact", "bonus": [{"kind": "format", "weight": 1, "pattern": "(?=a)"}]},
            "reward.bonus.0.format.pattern",
            "lookaround",
        ),
        (
            {"kind": "exact", "bonus": [{"kind": "length", "weight": 1, "start": 512}]},
            "",
            "reward.bonus.0.start (512) must be below its end (512, rollout.max_new_tokens)",
        ),
        (
            {"kind": "exact", "bonus": [{"kind": "length", "weight": 1, "start": 9, "end": 9}]},
            "",
            "must be below its end (9)",
        ),
        ({"kind": 7}, "reward.kind", "string"),
        ({"kind": "math", "timeout_seconds": 0}, "reward.timeout_seconds", "greater than 0"),
    ],
)
def test_what_is_wrong_is_named(reward, field, says):
    found = errors(**reward)
    assert list(found) == [field]
    assert says in found[field]


@pytest.mark.parametrize(
    "reward",
    [
        {"kind": "reasoning_gym:countdown"},
        {"kind": "http:judge"},
        {"kind": "plugin:mine"},
        {"kind": "python", "options": {"code": "def score(response, answer, metadata): return 1"}},
    ],
)
@pytest.mark.parametrize("preset", ["asymgrpo", "reinforce", "maxrl", "grpo", "dr_grpo", "dapo"])
def test_rewards_between_0_and_1_need_a_threshold_where_only_right_and_wrong_are_known(reward, preset):
    spec = {**MINIMAL, "reward": reward, "algorithm": {"preset": preset}}
    if preset in ("grpo", "dr_grpo", "dapo"):
        JobSpec.model_validate(spec)
    else:
        with pytest.raises(ValidationError, match=r"algorithm\.success_threshold must be set"):
            JobSpec.model_validate(spec)
    JobSpec.model_validate({**spec, "algorithm": {"preset": preset, "success_threshold": 0.5}})


def test_kinds_are_taken_apart():
    assert parse_kind("math") == Kind("math", "")
    assert parse_kind("http:judge") == Kind("http", "judge")
    for wrong in ("", ":", "math:", "math:x", "MATH"):
        with pytest.raises(ValueError, match="unknown verifier"):
            parse_kind(wrong)


def test_a_rows_options_are_merged_for_the_jobs_kind_only():
    job_options = resolve_options("exact", {"ignore_case": True})
    assert row_verifier("exact", job_options, None, None) == ("exact", job_options)
    assert row_verifier("exact", job_options, "exact", {"normalize_whitespace": False}) == (
        "exact",
        {"match": "equal", "ignore_case": True, "normalize_whitespace": False},
    )
    assert row_verifier("exact", job_options, "regex", {"full_match": True}) == (
        "regex",
        {"pattern": None, "ignore_case": False, "full_match": True},
    )
    with pytest.raises(ValueError, match=r"^options\.tolerance: unknown option$"):
        row_verifier("exact", job_options, None, {"tolerance": 1})
    for kind in ("http:judge", "plugin:mine", "python"):
        with pytest.raises(ValueError, match="the spec alone sets those"):
            row_verifier(kind, {}, None, {"code": "x"})


def test_the_spec_imports_no_verifier():
    code = (
        "import sys; from trainer.spec import JobSpec; "
        "JobSpec.model_validate({'name': 'x', 'model': {'id': 'builtin/tiny-arith'}, 'data': {'train': 'd'}, "
        "'reward': {'kind': 'regex', 'options': {'pattern': 'a'}}}); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'sympy', 'math_verify', 'reasoning_gym')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
