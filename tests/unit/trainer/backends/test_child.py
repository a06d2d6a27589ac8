"""The verl process does not outlive the trainer, however either of them takes it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from trainer.backends.verl import child
from trainer.backends.verl.child import VerlProcess

PARENT = """
import os, sys
from pathlib import Path
from trainer.backends.verl.child import VerlProcess
command = [sys.executable, "-c", "import time; time.sleep(600)"]
started = VerlProcess(command, cwd=Path("/"), log=Path(sys.argv[1]), environment=os.environ)
print(started._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def test_it_ends_with_a_trainer_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.run(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert parent.returncode == -9
    try:
        psutil.Process(int(parent.stdout)).wait(10)
    except psutil.NoSuchProcess:
        return


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 0.2)
    with VerlProcess(
        [sys.executable, "-c", DEAF], cwd=tmp_path, log=tmp_path / "log", environment=os.environ
    ) as process:
        while process.last_lines(1) != ["deaf"]:
            assert process.wait(0.05) is None
    assert process.wait(0) == -9
