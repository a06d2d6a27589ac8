"""The job spec refuses what it does not know, names the field, and resolves to something that resolves to itself."""

import inspect
import math
import subprocess
import sys

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from trainer.spec import JobSpec
from trainer.spec.algorithm import Schedule, coefficient_at
from trainer.spec.job import CHAT_TEMPLATE_RESERVED, CheckpointSpec, DataSpec
from trainer.spec.model import parse_model_id
from trainer.spec.presets import PRESETS

MINIMAL = {
    "name": "x",
    "model": {"id": "builtin/tiny-arith"},
    "data": {"train": "ds_1"},
    "reward": {"kind": "exact"},
}


def errors(**sections: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate({**MINIMAL, **sections})
    return {".".join(map(str, each["loc"])): each["msg"] for each in caught.value.errors()}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_to_itself(preset: str):
    spec = JobSpec.model_validate({**MINIMAL, "algorithm": {"preset": preset}})
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    for field, value in PRESETS[preset].items():
        assert getattr(spec.algorithm, field) == value


def test_given_fields_win_over_the_preset():
    spec = JobSpec.model_validate({**MINIMAL, "algorithm": {"preset": "asymgrpo", "beta_pos": 0.75}})
    assert (spec.algorithm.beta_pos, spec.algorithm.beta_neg) == (0.75, 0.4)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"optim": {"learning_rate": 1.0}}, "optim.learning_rate"),
        ({"train": {"steps": "100"}}, "train.steps"),
        ({"train": {"steps": True}}, "train.steps"),
        ({"rollout": {"group_size": 1}}, "rollout.group_size"),
        ({"algorithm": {"beta_pos": math.nan}}, "algorithm.beta_pos.constant"),
        ({"algorithm": {"beta_neg": math.inf}}, "algorithm.beta_neg.constant"),
        ({"algorithm": {"preset": "gpro"}}, "algorithm.preset"),
        ({"algorithm": {"preset": "grpo", "beta_pos": 0.5}}, "algorithm"),
        ({"algorithm": {"entropy_target": 0.3}}, "algorithm"),
        ({"optim": {"prompts_per_step": 10, "prompts_per_update": 4}}, "optim"),
        ({"eval": [{"name": "a", "data": "ds_2", "samples": 2, "k": [4]}]}, "eval.0"),
        ({"eval": [{"name": "../a", "data": "ds_2"}]}, "eval.0.name"),
        ({"data": {"train": "ds_1", "prompt_template": "no slot"}}, "data"),
        ({"model": {"id": "hf/../../etc"}}, "model.id"),
        ({"model": {"id": "builtin/gpt-5"}}, "model.id"),
        ({"checkpoint": {"keep_best": "eval/nowhere/pass_at_k/1"}}, ""),
    ],
)
def test_what_is_wrong_is_named(sections: dict[str, object], field: str):
    assert field in errors(**sections)


def test_a_number_that_yaml_left_as_text_is_a_number():
    assert JobSpec.model_validate({**MINIMAL, "optim": {"lr": "2e-6"}}).optim.lr == 2e-6
    assert "optim.lr" in errors(optim={"lr": "fast"})


@pytest.mark.parametrize(
    ("model_id", "source", "name"),
    [
        ("builtin/tiny-arith", "builtin", "tiny-arith"),
        ("hf/Qwen/Qwen3-4B", "hf", "Qwen/Qwen3-4B"),
        ("path/my.model", "path", "my.model"),
        ("job/job_01abc@20", "job", "job_01abc@20"),
    ],
)
def test_model_ids_are_taken_apart(model_id: str, source: str, name: str):
    assert parse_model_id(model_id) == (source, name)


@pytest.mark.parametrize(
    "model_id", ["", "path/..", "path/a/b", "path//etc", "hf/a", "job/job_1", "path/a\0", "path/a\n", "file/a"]
)
def test_a_model_id_cannot_climb(model_id: str):
    with pytest.raises(ValueError, match="unknown model id"):
        parse_model_id(model_id)


def test_schedules_begin_end_and_stay():
    linear = Schedule(kind="linear", start=1.0, end=0.0, steps=10)
    cosine = Schedule(kind="cosine", start=0.0, end=1.0, steps=10)
    assert [linear.at(step) for step in (1, 6, 11, 1000)] == [1.0, 0.5, 0.0, 0.0]
    assert [cosine.at(step) for step in (1, 6, 11, 1000)] == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert coefficient_at(0.9, 50) == 0.9


def test_retention_keeps_the_last_and_the_best():
    spec = CheckpointSpec(keep_last=2, keep_best="group/accuracy")
    assert spec.retained({10: 0.5, 20: 0.9, 30: 0.9, 40: None, 50: 0.1}) == {20, 40, 50}
    assert CheckpointSpec(keep_last=1).retained({10: None, 20: None}) == {20}
    assert spec.retained({}) == set()


def test_the_spec_needs_no_torch():
    code = (
        "import sys, trainer.spec, trainer.spec.events; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_spec_brings_no_chat_template_of_its_own():
    taken = set(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) - {"self", "kwargs"}
    assert taken <= CHAT_TEMPLATE_RESERVED
    data = {"train": "ds_1", "chat_template_kwargs": {"enable_thinking": False}}
    assert DataSpec.model_validate(data).chat_template_kwargs == {"enable_thinking": False}
    with pytest.raises(ValidationError, match="must not hold chat_template"):
        DataSpec.model_validate({**data, "chat_template_kwargs": {"chat_template": "{{ 1 }}"}})
