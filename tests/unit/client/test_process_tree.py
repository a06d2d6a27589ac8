"""The process tree with real, tiny child processes."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import psutil
import pytest

from client.process_tree import LONGEST_LINE, Finished, GivenUp, Part, ProcessTree, Restarts, how_it_ended

DEADLINE = 20.0
QUICK = Restarts(limit=5, window=60.0, first_pause=0.01, longest_pause=0.02)


class Watched:
    """A tree whose log and notices can be waited for."""

    def __init__(self, restarts: Restarts = QUICK) -> None:
        self.lines: list[tuple[str, str]] = []
        self.notices: SimpleQueue[Finished | GivenUp] = SimpleQueue()
        self._changed = threading.Condition()
        self.tree = ProcessTree(self._take, self.notices.put, restarts)

    def _take(self, name: str, line: str) -> None:
        with self._changed:
            self.lines.append((name, line))
            self._changed.notify_all()

    def said(self, name: str) -> list[str]:
        return [line for each, line in self.lines if each == name]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), self.lines

    def notice(self) -> Finished | GivenUp:
        try:
            return self.notices.get(timeout=DEADLINE)
        except Empty:
            pytest.fail(f"no notice; the log so far: {self.lines}")

    def stop(self, *names: str, hurry: bool = False) -> None:
        hurried = threading.Event()
        if hurry:
            hurried.set()
        self.tree.stop(*((name,) for name in names), hurry=hurried)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.stop(*watched.tree.processes(), hurry=True)


def part(name: str, code: str, **options: object) -> Part:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-c", code]
    return Part(name=name, argv=argv, environment=lambda: environment, **options)  # type: ignore[arg-type]


SLEEPER = "import time; print('up'); time.sleep(600)"


def test_lines_of_both_streams_come_under_the_part_s_name(watched: Watched) -> None:
    watched.tree.start(part("job", "import sys; print('out'); print('err', file=sys.stderr)", once=True))
    assert watched.notice() == Finished("job", 0)
    assert sorted(watched.said("job")) == ["err", "out"]


def test_a_part_s_stdout_may_be_for_the_supervisor_alone(watched: Watched) -> None:
    announced: SimpleQueue[str] = SimpleQueue()
    code = "import sys; print('for you'); print('for the log', file=sys.stderr)"
    watched.tree.start(part("server", code, once=True, on_stdout=announced.put))
    assert announced.get(timeout=DEADLINE) == "for you"
    watched.notice()
    assert watched.said("server") == ["for the log"]


def test_an_endless_line_comes_in_pieces(watched: Watched) -> None:
    watched.tree.start(part("chatty", f"print('x' * {3 * LONGEST_LINE})", once=True))
    watched.notice()
    assert [len(line) for line in watched.said("chatty") if line] == [LONGEST_LINE] * 3


def test_a_part_killed_from_outside_is_started_again_and_that_is_said(watched: Watched) -> None:
    watched.tree.start(part("api", SLEEPER))
    watched.wait_for(lambda: watched.said("api") == ["up"])
    first = watched.tree.processes()["api"]
    os.kill(first, signal.SIGKILL)
    watched.wait_for(lambda: watched.said("api").count("up") == 2)
    assert watched.tree.processes()["api"] != first
    assert any("was killed by SIGKILL" in line and "starting it again" in line for line in watched.said("api"))


def test_a_part_that_ends_with_code_0_unasked_is_started_again_too(watched: Watched, tmp_path: Path) -> None:
    flag = tmp_path / "been-here"
    code = f"""
import pathlib, time
flag = pathlib.Path({str(flag)!r})
if flag.exists():
    print('second')
    time.sleep(600)
flag.touch()
"""
    watched.tree.start(part("worker", code))
    watched.wait_for(lambda: "second" in watched.said("worker"))


def test_a_part_that_keeps_ending_is_given_up(watched: Watched) -> None:
    watched.tree.start(part("dashboard", "raise SystemExit(7)"))
    assert watched.notice() == GivenUp("dashboard", 7)
    ended = [line for line in watched.said("dashboard") if "exit code 7" in line]
    assert len(ended) == QUICK.limit
    assert "given up" in ended[-1]


def test_ends_far_apart_do_not_add_up() -> None:
    watched = Watched(Restarts(limit=2, window=0.0, first_pause=0.0))
    watched.tree.start(part("api", "raise SystemExit(1)"))
    watched.wait_for(lambda: len(watched.said("api")) >= 4)
    watched.stop("api", hurry=True)
    assert watched.notices.empty()


def test_a_program_that_is_not_there_is_given_up_not_fatal(watched: Watched) -> None:
    watched.tree.start(Part(name="api", argv=["/no/such/program"], environment=lambda: os.environ))
    assert isinstance(watched.notice(), GivenUp)
    assert any("cannot be started" in line for line in watched.said("api"))


def test_the_pause_doubles_up_to_its_limit() -> None:
    restarts = Restarts(first_pause=0.5, longest_pause=8.0)
    assert [restarts.pause(end) for end in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_parts_stop_in_the_order_of_the_stages(watched: Watched) -> None:
    code = """
import signal, sys, time
def stop(*_):
    time.sleep(0.3)
    print('stopped', time.time())
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('up')
time.sleep(600)
"""
    for name in ("first", "second"):
        watched.tree.start(part(name, code))
        watched.wait_for(lambda name=name: watched.said(name) == ["up"])
    watched.stop("first", "second")
    assert watched.tree.processes() == {}
    moments = [float(watched.said(name)[-1].split()[1]) for name in ("first", "second")]
    assert moments[1] - moments[0] >= 0.25


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"


def test_a_part_that_does_not_stop_is_killed_at_its_deadline(watched: Watched) -> None:
    watched.tree.start(part("worker", STUBBORN, stop_seconds=0.3))
    watched.wait_for(lambda: watched.said("worker") == ["up"])
    pid = watched.tree.processes()["worker"]
    watched.stop("worker")
    assert not psutil.pid_exists(pid)
    assert any("not gone" in line and "killed" in line for line in watched.said("worker"))


def test_hurrying_does_not_wait_for_the_deadline(watched: Watched) -> None:
    watched.tree.start(part("worker", STUBBORN, stop_seconds=600.0))
    watched.wait_for(lambda: watched.said("worker") == ["up"])
    began = time.monotonic()
    watched.stop("worker", hurry=True)
    assert time.monotonic() - began < DEADLINE
    assert watched.tree.processes() == {}


def test_stopping_ends_the_wait_before_a_restart() -> None:
    watched = Watched(Restarts(limit=5, window=60.0, first_pause=600.0, longest_pause=600.0))
    watched.tree.start(part("api", "raise SystemExit(1)"))
    watched.wait_for(lambda: any("starting it again" in line for line in watched.said("api")))
    began = time.monotonic()
    watched.stop("api")
    assert time.monotonic() - began < DEADLINE


def test_the_leash_ends_with_this_process(tmp_path: Path) -> None:
    """A part on a leash notices the death of its supervisor, however sudden."""
    noticed = tmp_path / "noticed"
    script = f"""
import os, sys, threading
from client.process_tree import Part, ProcessTree
tree = ProcessTree(lambda name, line: print(line, flush=True), print)
leashed = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read(); open({str(noticed)!r}, 'w').close()"
tree.start(Part("servers", [sys.executable, "-c", leashed], lambda: os.environ, stdin_is_a_leash=True))
threading.Event().wait()
"""
    supervisor = psutil.Popen([sys.executable, "-c", script], stdout=-1, text=True)
    with supervisor.stdout:
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
        supervisor.wait()
    child.wait(DEADLINE)
    assert noticed.exists()


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-15, "SIGTERM"), (-200, "signal 200")]
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert words in how_it_ended(code)
