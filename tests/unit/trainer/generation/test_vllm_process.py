"""The process that vLLM lives in, without a vLLM: what it answers, what it leaves behind, when it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from trainer.engines.vllm import seeds, serves
from trainer.engines.vllm.process import ChildProcess
from trainer.errors import EngineError, RunError

ROOT = Path(__file__).parents[4]


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    with ChildProcess({}, room=1) as child:
        yield child


def ask(child: ChildProcess, call: str, **arguments: object) -> dict[str, Any]:
    child.send(call, **arguments)
    return child.receive()


@pytest.mark.skipif(serves("cpu") or serves("cuda"), reason="vLLM is installed")
def test_what_fails_in_it_is_answered_and_it_goes_on(child: ChildProcess) -> None:
    for _ in range(2):
        with pytest.raises(EngineError, match="ModuleNotFoundError: No module named 'vllm'"):
            ask(child, "start", engine_arguments={})


@pytest.mark.skipif(serves("cpu") or serves("cuda"), reason="vLLM is installed")
def test_what_it_will_not_take_is_the_users_to_change(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    # A module of the name that refuses, as vLLM does at what it can't serve.
    (child.folder / "vllm.py").write_text("raise ValueError('no such architecture')")
    monkeypatch.setenv("PYTHONPATH", str(child.folder))
    with (
        ChildProcess({}, room=1) as refusing,
        pytest.raises(RunError, match="vLLM: ValueError: no such architecture") as error,
    ):
        ask(refusing, "start", engine_arguments={})
    assert error.value.code == "engine_refused"


def test_signals_to_the_group_do_not_end_it_and_its_death_is_said(child: ChildProcess) -> None:
    with pytest.raises((EngineError, RunError)):  # Answered, so it ignores the signals from here on.
        ask(child, "load_weights", folder="")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.pid, number)
    with pytest.raises((EngineError, RunError)):
        ask(child, "load_weights", folder="")
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"ended \(killed by signal 9\) during load_weights"):
        ask(child, "load_weights", folder="")


def test_it_and_its_folder_are_gone_when_it_is_closed(child: ChildProcess) -> None:
    assert child.folder.stat().st_mode & 0o777 == 0o700
    (child.folder / "weights.safetensors").write_bytes(b"0")
    child.close()
    assert not psutil.pid_exists(child.pid)
    assert not child.folder.exists()
    child.close()


def test_they_are_gone_when_the_parent_is_killed() -> None:
    program = (
        "import time; from trainer.engines.vllm.process import ChildProcess; child = ChildProcess({}, room=1)\n"
        "print(child.pid, child.folder, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        process = psutil.Process(int(pid))
        parent.kill()
    process.wait(timeout=30)
    assert not Path(folder).exists()


def test_a_seed_is_a_function_of_the_rollout_alone() -> None:
    rollouts = [((seed,), p, s) for seed in range(3) for p in range(30) for s in range(30)]
    found = {seeds.request_seed(*rollout) for rollout in [*rollouts, ((0, 1), 2, 3), ((0,), 12, 3), ((0, 1, 2), 3, 0)]}
    assert len(found) == len(rollouts) + 2  # ((0,), 12, 3) is among them.
    assert all(0 <= seed < 2**63 for seed in found)
    # A change here would change every seeded run.
    assert seeds.request_seed((0, 1), 2, 3) == 6808652636021711048
