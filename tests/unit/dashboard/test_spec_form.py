"""The form of a spec: every field that the schema has, and the spec that is typed in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import spec_form
from trainer.spec import JobSpec
from trainer.spec.changes import with_changes

SCHEMA = {"$ref": "#/$defs/JobSpec", "$defs": {}}
_own = JobSpec.model_json_schema()
SCHEMA["$defs"] = {**_own.pop("$defs"), "JobSpec": _own}
FIELDS = {field.path: field for field in spec_form.fields(SCHEMA)}

MINIMAL = {
    "name": "n",
    "model": {"id": "builtin/tiny-arith"},
    "data": {"train": "ds_1"},
    "reward": {"kind": "exact"},
}


def leaves(value, prefix=""):
    for name, inner in value.items():
        path = f"{prefix}{name}"
        if isinstance(inner, dict) and path not in spec_form.LEFT_TO_THEMSELVES:
            yield from leaves(inner, f"{path}.")
        else:
            yield path


def test_the_interface_that_is_published_has_the_same_fields():
    document = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
    asked = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schemas = json.dumps({**asked, "$defs": document["components"]["schemas"]})
    published = spec_form.fields(json.loads(schemas.replace("#/components/schemas/", "#/$defs/")))
    assert {field.path for field in published} == {*FIELDS, "tags", "notes"}


def test_every_value_of_a_spec_has_its_field():
    spec = JobSpec.model_validate(MINIMAL | {"model": {"id": "builtin/tiny-arith", "lora": {"rank": 8}}})
    assert set(leaves(spec.model_dump(mode="json"))) <= set(FIELDS)


def test_a_field_knows_its_choices_its_default_and_what_it_is():
    assert FIELDS["rollout.engine"].choices == ("auto", "hf", "vllm")
    assert FIELDS["optim.offload"].choices == ("true", "false")
    assert FIELDS["resources.gpus"].choices == (), "auto, or any number"
    assert FIELDS["rollout.group_size"].default == "8"
    assert FIELDS["data.train"].default == ""
    assert FIELDS["eval"].long
    assert FIELDS["resources.labels"].long
    assert "Longer prompts are dropped" in FIELDS["data.max_prompt_tokens"].help
    assert (FIELDS["optim.lr"].section, FIELDS["optim.lr"].label, FIELDS["seed"].label) == ("optim", "lr", "seed")


def test_sections_come_in_the_order_of_the_documentation():
    sections = list(dict.fromkeys(field.section for field in FIELDS.values()))
    assert sections[:5] == ["name", "backend", "model", "data", "reward"]
    assert sections[-1] == "seed"


def test_what_is_typed_becomes_a_spec_that_the_platform_takes():
    typed = {
        "name": "007", "model.id": "builtin/tiny-arith", "data.train": "ds_1", "reward.kind": "exact",
        "optim.lr": "2e-6",
        "algorithm.preset": "asymgrpo", "algorithm.beta_neg": "0.2", "resources.gpus": "auto", "train.steps": " ",
        "eval": "[{name: e, data: ds_2, every: 5}]", "preflight": "true",
    }  # fmt: skip
    spec, wrong = spec_form.filled(typed, frozenset({"name"}))
    assert wrong == {}
    assert "train" not in spec
    resolved = JobSpec.model_validate(spec)
    assert (resolved.name, resolved.optim.lr, resolved.algorithm.beta_neg) == ("007", 2e-6, 0.2)
    assert (resolved.eval[0].every, resolved.preflight.prompts) == (5, 32)


def test_what_is_no_yaml_is_said_at_its_field():
    spec, wrong = spec_form.filled({"eval": "[{name: e", "seed": "3"}, frozenset())
    assert spec == {"seed": 3}
    assert wrong["eval"].startswith("not a value in YAML")


SPECS = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "preset"]), inner, max_size=3),
    max_leaves=8,
)
SECTIONED = st.dictionaries(st.sampled_from(["name", "model", "optim"]), SPECS, max_size=3)


@given(SECTIONED, SECTIONED)
def test_changes_are_laid_over_as_the_platform_does_it(spec, changes):
    assert spec_form.merged(spec, changes) == with_changes(spec, changes)


@pytest.mark.parametrize(
    ("section", "before", "given", "after"),
    [
        ("algorithm", {"preset": "grpo", "clip_low": 1}, {"preset": "dapo"}, {"preset": "dapo"}),
        ("algorithm", {"preset": "grpo", "low": 1}, {"high": 2}, {"preset": "grpo", "low": 1, "high": 2}),
        ("reward", {"kind": "exact", "options": {"x": 1}}, {"kind": "math"}, {"kind": "math"}),
    ],
)  # fmt: skip
def test_another_preset_or_kind_replaces_its_section(section, before, given, after):
    assert spec_form.merged({section: before}, {section: given}) == {section: after}
    assert with_changes({section: before}, {section: given}) == {section: after}


def test_errors_are_told_at_their_fields():
    errors = [
        {"loc": ["body", "optim", "lr"], "msg": "too small"},
        {"loc": ["body", "eval", 0, "k"], "msg": "too many"},
        {"loc": ["body"], "msg": "odd"},
    ]
    assert spec_form.by_field(errors) == {"optim.lr": ["too small"], "eval": ["0.k: too many"], "": ["odd"]}
    missing = [{"loc": ["body", "model"], "msg": "is missing"}, {"loc": ["body", "name"], "msg": "is missing"}]
    assert spec_form.by_field(missing, ("name", "model.id")) == {"model.id": ["is missing"], "name": ["is missing"]}


def test_a_value_of_a_spec_as_it_is_typed():
    spec = {"model": {"id": "m", "lora": None}, "optim": {"lr": 2e-6}, "eval": [{"name": "e"}], "data": {"x": True}}
    paths = ("model.id", "model.lora.rank", "optim.lr", "eval", "data.x", "nowhere.at.all")
    assert [spec_form.value_at(spec, path) for path in paths] == ["m", "", "2.0e-06", "[{name: e}]", "true", ""]
