"""Changes to a spec as one types them."""

import pytest

from client.spec_changes import changes_of
from client.spec_file import SpecFileError


def test_paths_become_objects_and_values_are_yaml():
    typed = ["algorithm.beta_neg=0.2", "algorithm.preset=grpo", "seed=3", "name=a=b", "eval=[]", "model.lora=null"]
    assert changes_of(typed) == {
        "algorithm": {"beta_neg": 0.2, "preset": "grpo"},
        "seed": 3,
        "name": "a=b",
        "eval": [],
        "model": {"lora": None},
    }
    assert changes_of([]) == {}


@pytest.mark.parametrize("wrong", [["seed"], ["=3"], ["a..b=1"], ["a=[1"], ["a=1", "a.b=2"]])
def test_what_cannot_be_read_names_itself(wrong):
    with pytest.raises(SpecFileError, match="--set"):
        changes_of(wrong)
