"""The trainer process and its guard, with small real programs in the trainer's place."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until
from worker.lines import read_lines
from worker.process import TrainerProcess, clean_environment

DEADLINE = 20


def wait_for(condition, what="the condition"):
    return wait_until(condition, DEADLINE, what, poll=0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path):
    running = []

    def start(program: str) -> TrainerProcess:
        command = [sys.executable, "-c", program]
        running.append(TrainerProcess(command, run_dir=tmp_path, environment=dict(os.environ)))
        return running[-1]

    yield start
    for process in running:
        process.close()
        wait_for(lambda: process.ended, "the process to go")  # noqa: B023
        process.stdout.close()
        process.stderr.close()


def numbers(process: TrainerProcess):
    """The program's stdout lines, as process ids."""
    return (int(line.content) for line in read_lines(process.stdout, 1000))


# A child in the group, a grandchild that left it for a session of its own, both ignoring SIGTERM.
FAMILY = r"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def say_pid():
    os.write(1, b"%d\n" % os.getpid())  # at once: others write too
def wait_for_ever():
    while True: time.sleep(1000)
for leave in (False, True):
    pid = os.fork()
    if pid == 0:
        if leave:
            os.setsid()
            if os.fork(): os._exit(0)
        say_pid()
        wait_for_ever()
say_pid()
"""


def family_of(process: TrainerProcess) -> list[int]:
    pids = list(itertools.islice(numbers(process), 3))
    assert all(alive(pid) for pid in pids)
    return pids


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("raise SystemExit(75)", 75),
        ("pass", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    ],
)
def test_the_exit_code_comes_through(start, program, code):
    process = start(program)
    wait_for(lambda: process.ended)
    assert process.exit_code == code


def test_a_program_that_cannot_be_started_says_so(tmp_path):
    process = TrainerProcess(["./no-such-program"], run_dir=tmp_path, environment={"PATH": "/bin"})
    (line,) = read_lines(process.stderr, 1000)
    assert line.content == b"cannot start ./no-such-program: [Errno 2] No such file or directory"
    wait_for(lambda: process.ended)
    assert process.exit_code == 127
    process.close()
    process.stdout.close()
    process.stderr.close()


def test_what_the_trainer_leaves_behind_is_killed_when_it_ends(start):
    process = start(FAMILY + "raise SystemExit(3)")
    pids = list(itertools.islice(numbers(process), 3))
    wait_for(lambda: process.ended)
    assert process.exit_code == 3
    assert not any(alive(pid) for pid in pids)


def test_kill_reaches_the_whole_family(start):
    process = start(FAMILY + "wait_for_ever()")
    pids = family_of(process)
    process.terminate(group=True)  # ignored by all of them
    process.kill()
    wait_for(lambda: process.ended)
    assert process.exit_code == -signal.SIGKILL
    assert not any(alive(pid) for pid in pids)


def test_kill_reaches_a_suspended_trainer(start):
    process = start("import os, time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(1000)")
    pid = next(numbers(process))
    process.run_until(0)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    process.kill()
    wait_for(lambda: process.ended)
    assert process.exit_code == -signal.SIGKILL


def test_a_family_stands_still_when_its_time_is_over_and_goes_on_when_it_gets_more(start):
    process = start(FAMILY + "wait_for_ever()")
    pids = family_of(process)
    process.run_until(time.monotonic() + 0.3)

    def states():
        return {psutil.Process(pid).status() for pid in pids}

    # By itself, and those too that left the trainer's process group.
    wait_for(lambda: states() == {psutil.STATUS_STOPPED})
    os.kill(pids[-1], signal.SIGCONT)
    wait_for(lambda: states() == {psutil.STATUS_STOPPED}, "the one that somebody has woken")
    process.run_until(time.monotonic() + 1000)
    wait_for(lambda: states() == {psutil.STATUS_SLEEPING})


def test_a_suspended_family_is_killed_once_the_worker_has_been_silent_for_too_long(start):
    process = start(FAMILY + "wait_for_ever()")
    pids = family_of(process)
    process.run_until(0, patience=2.5)
    for _ in range(3):  # a worker that is there says it again
        time.sleep(1.2)
        process.run_until(0, patience=2.5)
    assert {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED}
    wait_for(lambda: process.ended, "a worker that says nothing")
    assert process.exit_code == -signal.SIGKILL
    assert not any(alive(pid) for pid in pids)


def test_what_a_suspended_process_started_stands_still_too(start):
    process = start(
        "import os, time\n"
        "os.write(1, b'%d\\n' % os.getpid())\n"
        "while True:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(0.2)\n"
        "        os._exit(0)\n"
        "    time.sleep(0.005)\n"
    )
    leader = psutil.Process(next(numbers(process)))
    wait_for(lambda: len(leader.children()) > 10)
    process.run_until(0)

    def all_stand_still():
        moving = {psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING, psutil.STATUS_DISK_SLEEP}
        return not any(each.status() in moving for each in [leader, *leader.children()])

    wait_for(all_stand_still)


def test_terminate_reaches_the_trainer_and_not_its_children(start):
    process = start(
        "import os, signal, sys, time\n"
        "def leave(*_):\n"
        "    os.kill(child, 0)\n"  # still there
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "child = os.fork()\n"
        "if child == 0: signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "else: print(os.getpid(), flush=True)\n"
        "while True: time.sleep(1000)"
    )
    next(numbers(process))
    process.terminate()
    wait_for(lambda: process.ended)
    assert process.exit_code == 75


def test_a_killed_guard_takes_the_whole_family_along(start):
    process = start(FAMILY + "wait_for_ever()")
    pids = family_of(process)
    leader = next(pid for pid in pids if os.getpgid(pid) == pid == os.getsid(pid) and psutil.Process(pid).children())
    guard = psutil.Process(leader).parent()
    assert guard is not None
    guard.kill()
    wait_for(lambda: process.ended)
    assert process.exit_code is None
    wait_for(lambda: not any(alive(pid) for pid in pids))


def test_sigkill_of_the_supervising_process_leaves_nothing(tmp_path):
    supervisor = (
        "import os, sys, threading\n"
        "from pathlib import Path\n"
        "from worker.process import TrainerProcess\n"
        "process = TrainerProcess([sys.executable, '-c', sys.argv[1]], run_dir=Path.cwd(), environment=os.environ)\n"
        "while chunk := process.stdout.read(1000): os.write(1, chunk)\n"
        "threading.Event().wait()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", supervisor, FAMILY + "wait_for_ever()"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as parent:
        pids = [int(line.content) for line in itertools.islice(read_lines(parent.stdout, 100), 3)]
        assert all(alive(pid) for pid in pids)
        killed_at = time.monotonic()
        parent.kill()
        wait_for(lambda: not any(alive(pid) for pid in pids), "the family to be gone")
        assert time.monotonic() - killed_at < 2


def test_orders_to_a_trainer_that_has_ended_do_nothing(start):
    process = start("pass")
    wait_for(lambda: process.ended)
    process.terminate()
    process.run_until(0)
    process.kill()
    process.close()
    process.kill()


def test_the_environment_of_a_trainer_holds_no_secret_and_nothing_of_the_service():
    environment = clean_environment(
        {
            "PATH": "/bin",
            "HOME": "/home/me",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "2",
            "HF_HUB_OFFLINE": "1",
            "HF_TOKEN": "secret",
            "ASYM_DATABASE_URL": "postgresql://secret",
            "ASYM_BROKER_URL": "redis://secret",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        },
        cuda_visible_devices="2",
    )
    assert environment["CUDA_VISIBLE_DEVICES"] == "2"
    assert environment["PATH"] == "/bin"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "secret" not in " ".join(environment.values())
    assert not any(name.startswith("ASYM_") for name in environment)
