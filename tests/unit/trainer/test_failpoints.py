"""Failpoints: nothing without the environment variable, and what is armed happens where and as often as it says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.spec import failpoints

PASS_BY = """
import sys
from pathlib import Path
from trainer.spec import failpoints
for number in range(4):
    try:
        failpoints.hit("here", of="job_1", path=Path(sys.argv[1]))
    except (OSError, MemoryError) as error:
        print(number, type(error).__name__)
print("passed")
"""


def pass_by(folder: Path, file: Path, **fault: object) -> "subprocess.CompletedProcess[str]":
    (folder / "here#1.json").write_text(json.dumps(fault))
    return subprocess.run(
        [sys.executable, "-c", PASS_BY, str(file)],
        env={**os.environ, failpoints.VARIABLE: str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"01234567")
    return file


def test_without_the_variable_nothing_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here#1.json").write_text("not even JSON")
    monkeypatch.chdir(tmp_path)
    failpoints.hit("here")
    assert failpoints.VARIABLE not in os.environ


@pytest.mark.parametrize(("action", "code"), [("kill", -signal.SIGKILL), ("segfault", -signal.SIGSEGV)])
def test_a_process_dies(tmp_path: Path, file: Path, action: str, code: int) -> None:
    done = pass_by(tmp_path, file, action=action)
    assert (done.returncode, done.stdout) == (code, "")
    told = json.loads((tmp_path / "fired" / "here#1.json").read_text())
    assert (told["action"], told["path"]) == (action, str(file))


def test_it_happens_once_unless_it_is_to_happen_again(tmp_path: Path, file: Path) -> None:
    assert pass_by(tmp_path, file, action="enospc", skip=1).stdout.split("\n") == ["1 OSError", "passed", ""]
    assert pass_by(tmp_path, file, action="enospc", skip=2, again=True).stdout.split("\n")[:2] == [
        "2 OSError",
        "3 OSError",
    ]


@pytest.mark.parametrize(("of", "met"), [("job_1", True), ("job_2", False)])
def test_it_is_for_those_who_are_meant(tmp_path: Path, file: Path, of: str, met: bool) -> None:
    assert ("OSError" in pass_by(tmp_path, file, action="enospc", of=of).stdout) is met


def test_memory_runs_out(tmp_path: Path, file: Path) -> None:
    assert "0 MemoryError" in pass_by(tmp_path, file, action="memory").stdout


def test_files_are_damaged_without_a_word(tmp_path: Path, file: Path) -> None:
    assert pass_by(tmp_path, file, action="flip").stdout == "passed\n"
    assert file.read_bytes() == b"01235567"
    assert pass_by(tmp_path, file, action="short").stdout == "passed\n"
    assert file.read_bytes() == b"0123"


def test_every_point_of_the_table_is_passed_somewhere_and_no_other() -> None:
    root = Path(failpoints.__file__).parents[2]
    table = {
        line.split()[0]
        for line in (failpoints.__doc__ or "").splitlines()
        if line.startswith("    ") and "." in line.split()[0]
    }
    source = "".join(
        path.read_text() for part in ("trainer", "store", "api", "worker") for path in (root / part).rglob("*.py")
    )
    passed = {piece.split('"')[0] for piece in source.split('failpoints.hit("')[1:]}
    assert table == passed
