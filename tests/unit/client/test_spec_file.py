from pathlib import Path

import pytest

from client.spec_file import SpecFileError, data_references, file_of, read_spec


def spec(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return path


def test_references_are_found_and_replaced(tmp_path: Path) -> None:
    content = read_spec(
        spec(tmp_path, "data: {train: train.jsonl}\neval: [{name: a, data: ds_1}, {name: b, data: sub/b.csv}]\n")
    )
    found = data_references(content)
    assert [(each.where, each.value, each.is_id) for each in found] == [
        ("data.train", "train.jsonl", False),
        ("eval.0.data", "ds_1", True),
        ("eval.1.data", "sub/b.csv", False),
    ]
    found[2].replace("ds_2")
    assert content["eval"][1] == {"name": "b", "data": "ds_2"}


def test_json_is_read_too(tmp_path: Path) -> None:
    assert read_spec(spec(tmp_path, '{"name": "x", "train": {"steps": 3}}')) == {"name": "x", "train": {"steps": 3}}


@pytest.mark.parametrize("text", ["data: 3\neval: 4\n", "data: {train: [a]}\neval: [5, {data: 6}]\n", "name: x\n"])
def test_shapes_that_are_wrong_are_left_to_the_validation(tmp_path: Path, text: str) -> None:
    assert data_references(read_spec(spec(tmp_path, text))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "it holds a list"),
        ("", "it holds nothing"),
        ("a: [1\n", "neither YAML nor JSON"),
        ("algorithm: {beta_pos: .nan}", "algorithm.beta_pos must be a finite number"),
        ("eval: [{every: .inf}]", "eval.0.every must be a finite number"),
        ("name: 2024-01-01", "name is read as a date"),
        ("a: !!python/object:os.system {}", "neither YAML nor JSON"),
    ],
)
def test_what_is_no_spec_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecFileError, match=message):
        read_spec(spec(tmp_path, text))


def test_files_are_sought_beside_the_spec(tmp_path: Path) -> None:
    path = spec(tmp_path, "data: {train: train.jsonl}")
    (reference,) = data_references(read_spec(path))
    with pytest.raises(SpecFileError, match=r"data\.train: train\.jsonl is neither"):
        file_of(reference, path)
    (tmp_path / "train.jsonl").touch()
    assert file_of(reference, path) == tmp_path / "train.jsonl"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecFileError, match=r"nowhere\.yaml"):
        read_spec(tmp_path / "nowhere.yaml")
