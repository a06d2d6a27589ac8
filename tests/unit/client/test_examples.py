"""The files of examples/: what the demo runs, and specs that a trainer accepts."""

import json
import re
from pathlib import Path

import pytest
import yaml

from client.additions import additions
from client.demo import BENCHMARK, DATA_SEED, EVALUATION_ROWS, TRAIN_ROWS, job_spec
from trainer.spec import JobSpec

EXAMPLES = Path(__file__).parents[3] / "examples"


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text().splitlines()]


def test_the_additions_are_right_different_and_in_one_list_only() -> None:
    train, evaluation = additions(TRAIN_ROWS, EVALUATION_ROWS, DATA_SEED)
    assert (len(train), len(evaluation)) == (TRAIN_ROWS, EVALUATION_ROWS)
    prompts = [row["prompt"] for row in train + evaluation]
    assert len(set(prompts)) == len(prompts)
    for row in train + evaluation:
        match = re.fullmatch(r"(\d\d)\+(\d\d)=", row["prompt"])
        assert match is not None
        assert row["answer"] == str(int(match[1]) + int(match[2]))


def test_a_seed_chooses_the_additions() -> None:
    assert additions(10, 5, 1) == additions(10, 5, 1)
    assert additions(10, 5, 1) != additions(10, 5, 2)


def test_the_example_files_hold_the_demo_s_data() -> None:
    train, evaluation = additions(TRAIN_ROWS, EVALUATION_ROWS, DATA_SEED)
    assert rows("additions-train.jsonl") == train
    assert rows("additions-eval.jsonl") == evaluation


def test_the_demo_s_job_is_the_example() -> None:
    example = yaml.safe_load((EXAMPLES / "tiny-arith.yaml").read_text())
    assert example == job_spec("additions-train.jsonl", "additions-eval.jsonl")
    assert JobSpec.model_validate(example).eval[0].name == BENCHMARK


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_spec(path: Path) -> None:
    spec = JobSpec.model_validate(yaml.safe_load(path.read_text()))
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
