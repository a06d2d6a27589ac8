"""`asym eval`: a checkpoint, a model folder or a model id, evaluated without any service."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def asym(without_service: dict[str, str], tmp_path: Path) -> Run:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "client", *arguments]
        return subprocess.run(command, env=without_service, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def evaluations(output: str) -> list[dict[str, object]]:
    return [event for line in output.splitlines() if (event := json.loads(line))["type"] == "eval"]


def test_a_checkpoint_gives_the_numbers_that_its_run_gave(
    asym: Run, write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    trained = asym("train", str(write_spec()), "--run-dir", "run")
    assert trained.returncode == 0, trained.stderr
    last = evaluations(trained.stdout)[-1]
    assert last["step"] == 2

    # What is not said is the run's: verifier, response length, seed. A run's folder is its newest checkpoint.
    options = ["--data", "held-out=sub/additions-eval.jsonl", "--max-problems", "16"]
    for subject in ("run/checkpoints/2", "run"):
        again = asym("eval", subject, *options, "--results", "results", "--json")
        assert again.returncode == 0, again.stderr
        (event,) = evaluations(again.stdout)
        assert (event["step"], event["metrics"]) == (2, last["metrics"])
    lines = (tmp_path / "results" / "held-out.jsonl").read_text()
    assert lines == (tmp_path / "run" / "evals" / "held-out" / "2.jsonl").read_text()

    damaged = tmp_path / "run" / "checkpoints" / "2" / "model" / "config.json"
    damaged.write_text(damaged.read_text() + " ")
    refused = asym("eval", "run/checkpoints/2", *options)
    assert refused.returncode == 3
    assert "config.json has" in refused.stderr


def test_several_benchmarks_of_a_model_with_a_curve_of_pass_at_k(
    asym: Run, write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    write_spec()
    (tmp_path / "aime.csv").write_text("ID,Problem,Answer\n1,2+3=,5\n2,4+4=,8\n3,1+1=,2\n")
    result = asym(
        *("eval", "builtin/tiny-arith", "--kind", "exact", "--samples", "5", "--max-new-tokens", "6"),
        *("--data", "sub/additions-eval.jsonl", "--data", "small=aime.csv", "--max-problems", "8"),
    )
    assert result.returncode == 0, result.stderr
    first, second = evaluations(result.stdout)
    assert (first["name"], second["name"]) == ("additions-eval", "small")
    metrics = second["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["eval/small/problems"] == 3
    curve = [metrics[f"eval/small/pass_at_k/{k}"] for k in (1, 2, 4)]
    assert curve == sorted(curve)
    assert "eval/small/pass_at_k/8" not in metrics
    assert len((tmp_path / "evals" / "small.jsonl").read_text().splitlines()) == 15


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["builtin/tiny-arith", "--data", "nowhere.jsonl", "--kind", "exact"], "there is no file nowhere.jsonl"),
        (["builtin/tiny-arith", "--data", "spec.yaml"], "--kind"),
        (["no/model", "--data", "spec.yaml", "--kind", "exact"], "model.id: Value error, unknown model id"),
        (["builtin/tiny-arith", "--data", "spec.yaml", "--kind", "exact", "--k", "4"], "needs at least 4 samples"),
        (["sub", "--data", "spec.yaml", "--kind", "exact"], "config.json"),
        (["builtin/tiny-arith"], "--data"),
    ],
)
def test_what_is_wrong_is_named(
    asym: Run, write_spec: Callable[..., Path], arguments: list[str], complaint: str
) -> None:
    write_spec()
    result = asym("eval", *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr


def test_tiny_arith_refuses_what_it_cannot_read(asym: Run, tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n{"prompt": "one", "answer": "1"}\n')
    result = asym("eval", "builtin/tiny-arith", "--data", "words.jsonl", "--kind", "exact")
    assert result.returncode == 2
    assert "rows 2" in result.stderr
