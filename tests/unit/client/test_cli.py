"""The command line where it needs no server: usage, exit codes, messages."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app, main, training
from client.extras import MissingExtras, require
from client.front import free_port

PARTS = ["api", "worker", "dashboard", "migrate", "doctor", "backup", "restore", "teams"]
"""Which answer --help themselves."""
COMMANDS = ["up", "demo", *PARTS, "train", "eval", "submit"]
COMMANDS += [
    "jobs",
    "edit",
    "queue",
    "workers",
    "cancel",
    "pause",
    "resume",
    "clone",
    "retry",
    "delete",
    "watch",
    "logs",
    "metrics",
    "compare",
    "checkpoints",
    "rollouts",
    "export",
    "audit",
    "mirror",
    "datasets",
    "keys",
    "members",
    "sweeps",
    "webhooks",
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ASYM_API_URL", "ASYM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASYM_HOME", str(tmp_path / "home"))


def exit_code(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_train_hands_the_operators_flags_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(training, "_run", lambda argv: given.append(argv) or 0)
    (tmp_path / "data.jsonl").touch()
    spec = tmp_path / "spec.yaml"
    spec.write_text("{name: x, data: {train: data.jsonl}}")
    flags = ["--http-verifier", "a=http://a", "--http-verifier", "b=http://b", "--sandbox", "bubblewrap"]
    assert CliRunner().invoke(app, ["train", str(spec), *flags]).exit_code == 0
    assert given[0][-6:] == flags


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.output.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == COMMANDS


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in PARTS])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "usage: " in result.output.lower()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["submit"],
        ["rollouts", "job_1", "--step", "x"],
        ["up", "--api-port", "0"],
        ["compare", "job_1"],
        ["keys", "create", "x", "--role", "king"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_no_credentials_is_3_and_names_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("jobs") == 3
    assert "asym up" in capsys.readouterr().err


def test_nobody_listening_is_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("ASYM_API_URL", url)
    monkeypatch.setenv("ASYM_API_KEY", "asym_x")
    assert exit_code("jobs") == 3
    assert f"{url} does not answer" in capsys.readouterr().err


def test_a_spec_that_cannot_be_read_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("submit", str(tmp_path / "none.yaml")) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_a_data_file_that_is_missing_is_2_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: x\ndata: {train: gone.jsonl}\n")
    assert exit_code("train", str(spec)) == 2
    assert "data.train: gone.jsonl" in capsys.readouterr().err


def test_missing_extras_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.extras.find_spec", lambda name: None if name == "fastapi" else object())
    with pytest.raises(MissingExtras) as raised:
        require("api", "worker")
    assert "fastapi" in str(raised.value)
    assert "pip install 'asym-core[api]'" in str(raised.value)


def test_a_part_gets_its_own_arguments_help_included() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "client", "dashboard", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0
    assert "python -m dashboard" in result.stdout


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [sys.executable, "-m", "client", "up", "--home", str(tmp_path / "home"), "--api-port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 2
    assert f"port {port} is taken" in result.stderr
    assert not (tmp_path / "home" / "logs").exists()
