"""examples/paper: the specs say what the paper ran, the tiny scale changes nothing of the algorithms, and the report's
arithmetic is right."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from trainer.spec import JobSpec

PAPER = Path(__file__).parents[3] / "examples" / "paper"
TABLE = {
    "reinforce": "reinforce",
    "grpo": "grpo",
    "grpo_entropy": "grpo_entropy",
    "grpo_clip_higher": "grpo_clip_higher",
    "dr_grpo": "dr_grpo",
    "asymgrpo": "asymgrpo",
    "asymgrpo_clip_higher": "asymgrpo_clip_higher",
}
ALL = sorted(PAPER.glob("*/*.yaml"))


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The folder's own modules, which are scripts beside each other and no package."""
    import importlib

    monkeypatch.syspath_prepend(str(PAPER))
    names = ("runs", "report", "tiny_data")
    loaded = {name: importlib.import_module(name) for name in names}
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    return loaded


def spec_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def test_there_is_a_spec_for_every_row_of_the_table():
    assert {path.stem: spec_of(path)["algorithm"]["preset"] for path in (PAPER / "table").iterdir()} == TABLE


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_spec_is_what_the_paper_ran(path: Path):
    spec = JobSpec.model_validate(spec_of(path))
    assert spec.name == path.stem
    assert spec.model.id == "hf/Qwen/Qwen3-4B"
    assert spec.data.chat_template_kwargs == {"enable_thinking": False}
    assert (spec.rollout.group_size, spec.rollout.max_new_tokens) == (8, 4096)
    assert (spec.optim.lr, spec.optim.prompts_per_step, spec.optim.prompts_per_update) == (2e-6, 128, 64)
    benchmarks = {each.name: (each.samples, each.temperature) for each in spec.eval}
    assert benchmarks == {
        **dict.fromkeys(("math500", "olympiad"), (5, 0.4)),
        **dict.fromkeys(("aime24", "aime25", "amc23"), (10, 0.4)),
    }
    assert spec.checkpoint.keep_best == "eval/math500/accuracy"
    # Nothing but the algorithm and the name tells the specs apart.
    rest = {**spec_of(path), "name": None, "algorithm": None}
    assert rest == {**spec_of(ALL[0]), "name": None, "algorithm": None}


def test_the_rows_and_ablations_are_the_members_of_the_family():
    def betas(name: str) -> tuple[object, object]:
        algorithm = JobSpec.model_validate(spec_of(next(path for path in ALL if path.stem == name))).algorithm
        return algorithm.beta_pos, algorithm.beta_neg

    assert betas("asymgrpo") == betas("asymgrpo_clip_higher") == (0.9, 0.4)
    assert (betas("pos_only"), betas("neg_only")) == ((0.5, 0.0), (0.0, 0.5))
    assert (betas("ent_decrease"), betas("ent_increase")) == ((-0.5, 0.5), (0.5, -0.5))
    for name in (path.stem for path in ALL):
        if name.startswith("beta_pos_"):
            assert betas(name) == (float(name.removeprefix("beta_pos_")), 0.4)
        if name.startswith("beta_neg_"):
            assert betas(name) == (0.9, float(name.removeprefix("beta_neg_")))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_the_tiny_scale_leaves_the_algorithm_alone(path: Path, modules: dict[str, ModuleType], tmp_path: Path):
    overlay = spec_of(PAPER / "tiny.yaml")
    tiny = JobSpec.model_validate(modules["runs"].read_spec(path, overlay, 3, tmp_path))
    full = JobSpec.model_validate(spec_of(path))
    assert tiny.algorithm == full.algorithm
    assert tiny.rollout.group_size == 8
    assert tiny.optim.updates_per_step == 2
    assert tiny.seed == 3
    assert tiny.data.train == str(tmp_path / "data" / "train.jsonl")


def test_the_tiny_data_holds_out_what_it_says(modules: dict[str, ModuleType], tmp_path: Path):
    modules["tiny_data"].write_tiny_data(tmp_path)
    sums: dict[str, set[frozenset[int]]] = {}
    for path in tmp_path.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        operands = [tuple(map(int, row["prompt"].rstrip("=").split("+"))) for row in rows]
        assert all(str(a + b) == row["answer"] for (a, b), row in zip(operands, rows, strict=True))
        sums[path.stem] = {frozenset(pair) for pair in operands}
        if path.stem != "train":
            assert len(rows) == modules["tiny_data"].HELD_OUT
            assert {modules["tiny_data"].benchmark_of(*pair) for pair in operands} == {path.stem}
    names = list(sums)
    assert len(names) == 6
    assert all(not sums[a] & sums[b] for a in names for b in names if a < b)


def test_the_table_by_hand(modules: dict[str, ModuleType]):
    report, run = modules["report"], modules["runs"].Run

    def series(first: float, second: float) -> dict[int, dict[str, Any]]:
        def row(a: float, b: float) -> dict[str, Any]:
            return {"eval/a/accuracy": a, "eval/b/accuracy": b, "eval/b/pass_at_k/1": b, "eval/b/pass_at_k/2": b + 0.1}

        return {
            0: row(0.1, 0.9),
            1: {"group/none_solved": 0.5, "entropy/informative": None, "entropy/spurious": 0.2},
            2: {"group/none_solved": 0.1, "entropy/informative": 0.4, "logprob/gain_correct": 0.02, **row(first, 0.5)},
            4: row(second, 0.7),
        }

    # Best on `a`, the earliest of equals: step 2 of the first, step 4 of the second run.
    runs = [run("x", 0, series(0.6, 0.6)), run("x", 1, series(0.4, 0.8))]
    assert [report.chosen_step(each, ["a", "b"]) for each in runs] == [2, 4]
    text = report.table(report.by_method(runs), ["a", "b"]).splitlines()
    assert text[2] == "| x | 70.0 ± 14.1 | 60.0 ± 14.1 | 65.0 ± 14.1 |"
    assert text[6] == (
        "| x | 0.7000 ± 0.0707 | 0.8000 ± 0.0000 "
        "| 0.3000 ± 0.0000 | 0.4000 ± 0.0000 | 0.2000 ± 0.0000 | 0.0200 ± 0.0000 |"
    )


def test_one_command_runs_a_row_and_writes_its_report(tmp_path: Path, model_cache: Path):
    (tmp_path / "models-cache").symlink_to(model_cache)
    done = subprocess.run(
        [
            *(sys.executable, str(PAPER / "reproduce.py"), "--scale", "tiny", "--only", "asymgrpo"),
            *("--seeds", "0", "--steps", "2", "--out", str(tmp_path / "out")),
        ],
        env={**os.environ, "ASYM_HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| method | two_carries |")
    for name in ("table.md", "results.json", "entropy.png", "none_solved.png", "pass_at_k.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
