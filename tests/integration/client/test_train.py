"""`asym train`: the real trainer without any service."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def train(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "client", "train", *arguments]


def test_metrics_come_as_json_lines_and_a_run_can_be_taken_up_again(
    without_service: dict[str, str], write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    spec = write_spec(steps=100_000)
    # From another folder: data paths are relative to the spec's own.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = [str(spec), "--run-dir", "run", "--json"]
    with subprocess.Popen(
        train(*options), env=without_service, cwd=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["type"], first["name"], first["step"]) == ("eval", "held-out", 0)
        steps = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [(each["type"], each["step"]) for each in steps] == [("step", 1), ("step", 2)]
        assert 0 <= steps[0]["metrics"]["group/accuracy"] <= 1
        process.send_signal(signal.SIGINT)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 75
    last = max(each["step"] for each in [*steps, *rest])
    assert (elsewhere / "run" / "checkpoints" / str(last)).is_dir()

    content = json.loads(spec.read_text())
    content["train"]["steps"] = last + 1
    spec.write_text(json.dumps(content))
    again = subprocess.run(
        train(*options, "--resume", "latest"),
        env=without_service,
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    resumed = [json.loads(line) for line in again.stdout.splitlines()]
    assert [each["step"] for each in resumed if each["type"] == "step"] == [last + 1]


def test_a_spec_that_is_wrong_is_2_and_names_the_field(
    without_service: dict[str, str], write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    spec = write_spec()
    content = json.loads(spec.read_text())
    content["rollout"]["group_size"] = 1
    spec.write_text(json.dumps(content))
    result = subprocess.run(
        train(str(spec)), env=without_service, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert "rollout.group_size" in result.stderr
