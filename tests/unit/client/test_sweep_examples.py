"""The example plans are plans."""

from pathlib import Path

import pytest

from client.spec_file import data_references, file_of, read_spec
from trainer.spec.sweep import SweepSpec, members

FOLDER = Path(__file__).parents[3] / "examples" / "sweeps"


@pytest.mark.parametrize(("name", "jobs"), [("betas", 36), ("rates", 12)])
def test_the_examples_are_plans_of_data_that_is_there(name, jobs):
    file = FOLDER / f"{name}.yaml"
    plan = read_spec(file)
    for reference in data_references(plan["base"]):
        assert file_of(reference, file).is_file()
    assert len(members(SweepSpec.model_validate(plan))) == jobs
