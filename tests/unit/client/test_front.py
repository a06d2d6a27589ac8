"""The front: the home's lock, the ports, and that no process of the tree outlives it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from client.front import (
    Address,
    AlreadyUp,
    CannotStart,
    check_ports,
    free_port,
    is_up,
    lock_home,
    port_is_free,
    prepare_home,
)

DEADLINE = 30.0
ADDRESS = Address(18000, 18501)


def test_a_new_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    prepare_home(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_an_empty_folder_becomes_a_private_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare_home(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_folder_of_other_things_keeps_its_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    prepare_home(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert "open to other users" in capsys.readouterr().err


def test_a_second_lock_says_who_has_the_first(tmp_path: Path) -> None:
    assert not is_up(tmp_path)
    lock = lock_home(tmp_path, ADDRESS)
    assert is_up(tmp_path)
    with pytest.raises(AlreadyUp) as raised:
        lock_home(tmp_path, Address(1, 2))
    text = str(raised.value)
    assert str(os.getpid()) in text
    assert ADDRESS.api_url in text
    assert ADDRESS.dashboard_url in text
    os.close(lock)
    assert not is_up(tmp_path)
    os.close(lock_home(tmp_path, ADDRESS))


def test_a_taken_port_is_named_with_its_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free(port)
        with pytest.raises(CannotStart, match=f"port {port} is taken.*--dashboard-port"):
            check_ports(Address(free_port(), port))
        with pytest.raises(CannotStart, match=f"port {port} is taken.*--api-port"):
            check_ports(Address(port, free_port()))


def test_the_two_ports_must_differ() -> None:
    with pytest.raises(CannotStart, match="both"):
        check_ports(Address(8000, 8000))


FRONT = """
import os, signal, sys
from pathlib import Path
from client import front
from client.front import Address, Front, lock_home
front.ORPHAN_SECONDS = 1.0
home = Path(sys.argv[1])
it = Front([sys.executable, "-c", sys.argv[2]], home=home, lock=lock_home(home, Address(1, 2)))
signal.signal(signal.SIGTERM, lambda *_: it.stop())
print("supervisor", it.pid, flush=True)
print("exit", it.wait(), flush=True)
"""

SUPERVISOR = """
import os, subprocess, sys, threading
child = '''
import os, signal, subprocess, sys, time
{child_setup}
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("child", os.getpid(), grandchild.pid, flush=True)
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
{end}
"""


def start_front(home: Path, *, child_setup: str = "", end: str = "threading.Event().wait()") -> subprocess.Popen[str]:
    supervisor = textwrap.dedent(SUPERVISOR).format(child_setup=child_setup, end=end)
    return subprocess.Popen([sys.executable, "-c", FRONT, str(home), supervisor], stdout=subprocess.PIPE, text=True)


def pids_said(front: subprocess.Popen[str]) -> dict[str, list[psutil.Process]]:
    """The processes named in the front's first two lines."""
    assert front.stdout is not None
    said = [front.stdout.readline().split() for _ in range(2)]
    return {words[0]: [psutil.Process(int(pid)) for pid in words[1:]] for words in said}


@pytest.mark.parametrize("child_setup", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["heeds", "ignores"])
def test_children_of_a_killed_supervisor_are_ended(tmp_path: Path, child_setup: str) -> None:
    with start_front(tmp_path, child_setup=child_setup) as front:
        processes = pids_said(front)
        processes["supervisor"][0].kill()
        for process in processes["child"]:
            process.wait(DEADLINE)
        assert front.stdout is not None
        assert front.stdout.readline() == f"exit {-signal.SIGKILL}\n"
        assert front.wait(DEADLINE) == 0


def test_what_a_supervisor_leaves_behind_at_its_end_is_ended(tmp_path: Path) -> None:
    with start_front(tmp_path, end="sys.exit(5)") as front:
        assert front.stdout is not None
        said = front.stdout.read()
        assert front.wait(DEADLINE) == 0
    assert "exit 5" in said
    # The child may have been ended before it could speak.
    for pid in [word for line in said.splitlines() if line.startswith("child") for word in line.split()[1:]]:
        assert not psutil.pid_exists(int(pid))


def test_a_stop_is_passed_on_and_the_exit_code_comes_back(tmp_path: Path) -> None:
    end = "import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(9))"
    with start_front(tmp_path, end=f"{end}; print('ready', flush=True); threading.Event().wait()") as front:
        assert front.stdout is not None
        while "ready" not in front.stdout.readline():
            pass
        front.send_signal(signal.SIGTERM)
        assert "exit 9" in front.stdout.read()


def test_the_lock_is_free_only_when_the_supervisor_is_gone_too(tmp_path: Path) -> None:
    end = "sys.stdin.read(); print('noticed', flush=True); sys.stdin.close(); threading.Event().wait()"
    with start_front(tmp_path, end=end) as front:
        processes = pids_said(front)
        front.kill()
        assert front.stdout is not None
        # Its stdin's end tells the supervisor; until it ends, the home is not free.
        assert front.stdout.readline() == "noticed\n"
        assert is_up(tmp_path)
        for process in [*processes["supervisor"], *processes["child"]]:
            process.kill()
        for process in processes["supervisor"]:
            process.wait(DEADLINE)
    assert not is_up(tmp_path)


def test_the_lock_file_is_json_for_people_and_programs(tmp_path: Path) -> None:
    lock = lock_home(tmp_path, ADDRESS)
    found = json.loads((tmp_path / "up.lock").read_text())
    assert found == {"pid": os.getpid(), "api_url": ADDRESS.api_url, "dashboard_url": ADDRESS.dashboard_url}
    os.close(lock)
