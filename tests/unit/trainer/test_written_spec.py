"""A checkpoint of a newer version is read as far as it is understood, and what is left out is named."""

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from trainer.run import refuse_another_adapter
from trainer.spec import JobSpec
from trainer.spec.written import spec_of_checkpoint

SPEC = JobSpec.model_validate(
    {
        "name": "n",
        "model": {"id": "builtin/tiny-arith", "lora": {"rank": 4}},
        "data": {"train": "ds_1"},
        "reward": {"kind": "exact"},
        "train": {"steps": 3},
        "eval": [{"name": "e", "data": "ds_2"}],
    }
)


def written(**changes):
    return SPEC.model_dump(mode="json") | changes


def test_one_of_this_version_is_the_same():
    assert spec_of_checkpoint(written()) == (SPEC, [])


def test_what_only_a_newer_version_knows_is_left_out_and_named():
    stored = written(newer={"a": 1})
    stored["diagnostics"]["newer"] = True
    stored["eval"][0]["newer"] = 3
    stored["model"]["lora"]["newer"] = None
    assert spec_of_checkpoint(stored) == (SPEC, ["diagnostics.newer", "eval.0.newer", "model.lora.newer", "newer"])
    assert stored["newer"] == {"a": 1}
    refuse_another_adapter(SPEC, SimpleNamespace(state={"spec": stored}, step=1))


@pytest.mark.parametrize("changes", [{"train": {"steps": -1}, "newer": 1}, {"model": 1}])
def test_what_is_wrong_otherwise_stays_wrong(changes):
    with pytest.raises(ValidationError):
        spec_of_checkpoint(written(**changes))
