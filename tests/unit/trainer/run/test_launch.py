"""The process that starts the ranks: what it passes on, how it ends, and that nothing outlives it.

The ranks are scripts that say and do what a test wants of them; no model, no torch.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.launch import meeting_place
from trainer.spec.events import EXIT_STOPPED, EXIT_USER_ERROR
from worker.process import TrainerProcess

LAUNCHER = """
import sys, threading
from trainer.event_stream import EventStream
from trainer.launch import launch
command = [sys.executable, "-c", sys.argv[1]]
sys.exit(launch(["spec.yaml"], 2, EventStream(sys.stdout), threading.Event(), command))
"""

RANK = """
import json, os, signal, sys, threading, time
rank = int(sys.argv[sys.argv.index("--rank") + 1])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())

def say(type, **fields):
    print(json.dumps({"type": type, "time": 1.0, **fields}), flush=True)

def fail(time, kind, code):
    say("failed", time=time, kind=kind, code=code, message=code)

def wait():
    "For the end of the launcher, which is the end of stdin."
    sys.stdin.read()
    os._exit(9)

"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start(body): the launcher of two ranks which run `body`."""
    processes: list[subprocess.Popen[str]] = []

    def start(body: str, **environment: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, RANK + body],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path)), **environment},
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def said(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Everything, to the end. The end of the pipe is that of all who could write to it."""
    return [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]


def test_the_first_rank_speaks_for_all(start: Callable[..., Any]):
    process = start("for step in range(3): say('done', step=step, rank=rank)")
    assert [(each["step"], each["rank"]) for each in said(process)] == [(0, 0), (1, 0), (2, 0)]
    assert process.returncode == 0


def test_each_rank_knows_its_place_and_where_to_meet(start: Callable[..., Any]):
    place = "arguments=sys.argv[1:], group=os.getpgrp(), folder=os.listdir(os.path.dirname(sys.argv[-1]))"
    process = start(f"say('done', step=0, {place})")
    [event] = said(process)
    assert event["group"] == process.pid, "who suspends or kills the launcher's group means the ranks too"
    *arguments, rendezvous = event["arguments"]
    assert arguments == ["spec.yaml", "--rank", "0", "--ranks", "2", "--rendezvous"]
    assert event["folder"] == ["lock"]
    assert not Path(rendezvous).parent.exists()


def test_a_failure_of_any_rank_is_the_runs_and_the_first_is_told(start: Callable[..., Any], fifo: Path):
    process = start(
        "if rank == 1:\n"
        "    pipe = open(os.environ['FIFO'], 'w')\n"
        "    fail(1.0, 'user', 'out_of_memory')\n"
        "    pipe.close()\n"
        "else:\n"
        "    say('done', step=0)\n"
        "    open(os.environ['FIFO']).read()\n"
        "    fail(2.0, 'infrastructure', 'peer_lost')\n"
        "wait()",
        FIFO=str(fifo),
    )
    events = said(process)
    assert [event["type"] for event in events] == ["done", "failed"]
    assert events[1]["code"] == "out_of_memory"
    assert process.returncode == EXIT_USER_ERROR


def test_when_a_rank_is_killed_the_others_are_too(start: Callable[..., Any]):
    process = start("if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\nwait()")
    assert said(process) == []
    assert process.returncode == -signal.SIGKILL


def test_a_rank_that_ends_badly_without_a_word_ends_the_run(start: Callable[..., Any]):
    process = start("if rank == 1: sys.exit(7)\nwait()")
    assert said(process) == []
    assert process.returncode == 7


def test_a_stop_reaches_every_rank(start: Callable[..., Any], fifo: Path):
    process = start(
        "file = open(os.environ['FIFO'], 'w')\nprint('here', file=file, flush=True)\nstop.wait()\n"
        f"if rank == 0: say('stopped', step=1)\nsys.exit({EXIT_STOPPED})",
        FIFO=str(fifo),
    )
    with fifo.open() as ranks:
        # Both: a rank that has not yet said what a SIGTERM means to it would die of one.
        assert [ranks.readline(), ranks.readline()] == ["here\n", "here\n"]
    process.send_signal(signal.SIGTERM)
    assert [event["type"] for event in said(process)] == ["stopped"]
    assert process.returncode == EXIT_STOPPED


def test_ranks_end_with_the_launcher_however_it_dies(start: Callable[..., Any], fifo: Path):
    process = start(
        "file = open(os.environ['FIFO'], 'w')\nprint('here', file=file, flush=True)\nwait()", FIFO=str(fifo)
    )
    with fifo.open() as ranks:
        assert [ranks.readline(), ranks.readline()] == ["here\n", "here\n"]
        process.kill()
        # The end of the file comes when nobody is left who could write to it.
        assert ranks.read() == ""


def test_a_worker_that_kills_its_trainer_kills_the_ranks(fifo: Path, tmp_path: Path):
    body = "file = open(os.environ['FIFO'], 'w')\nprint('here', file=file, flush=True)\nwait()"
    process = TrainerProcess(
        [sys.executable, "-c", LAUNCHER, RANK + body],
        run_dir=tmp_path,
        environment={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path)), "FIFO": str(fifo)},
    )
    with fifo.open() as ranks, process.stdout, process.stderr:
        assert [ranks.readline(), ranks.readline()] == ["here\n", "here\n"]
        process.kill()
        assert ranks.read() == ""
        assert process.stdout.read(1) == b""
    process.close()


def test_what_a_killed_launcher_left_goes_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("asym-ranks-dead", "asym-ranks-alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with (tmp_path / "asym-ranks-alive" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with meeting_place() as folder:
            assert {path.name for path in tmp_path.iterdir()} == {"asym-ranks-alive", Path(folder).name}
        assert [path.name for path in tmp_path.iterdir()] == ["asym-ranks-alive"]
