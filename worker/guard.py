"""The process between the worker and a trainer, so that no way of dying leaves a process behind.

    python -I -S guard.py STATUS_FD COMMAND [ARG...]

The guard starts COMMAND in a session of its own and obeys lines on stdin (the orders below). End of file there means
that the worker is gone, however it died, and is obeyed as KILL. When the command ends, or is killed, everything it
started is killed with it: its process group, and what left the group too, since orphans are handed to the guard
(PR_SET_CHILD_SUBREAPER, Linux). Signals go through the guard because only a parent can know that a process id still is
the process it started.

The guard also keeps the lease: nothing below it computes past the time that the last RUN_UNTIL named, whatever became
of the worker. One that hangs, or was itself suspended, cannot say "stop" any more.

STATUS_FD gets two lines: `started PID`, and `exited CODE` once nothing is left (CODE as in subprocess: -9 is SIGKILL).
Standard library only, and none of Asym: it must start in milliseconds and outlive everything else.
"""

import contextlib
import ctypes
import math
import os
import select
import signal
import sys
import time
from pathlib import Path

TERMINATE = b"terminate"
"""SIGTERM to the trainer alone: it writes a checkpoint, and its own children are its own business."""
TERMINATE_GROUP = b"terminate-group"
RUN_UNTIL = b"run-until"
"""`run-until SECONDS PATIENCE`, the first on the system's monotonic clock, which is one for all processes. From then on
everything stands still (SIGSTOP), those included that left the group; it goes on when a later time is named. After
PATIENCE seconds of standing still without any order it is killed: a worker that is there says the order again and
again, and one that is not would let a dead attempt keep its GPU's memory."""
KILL = b"kill"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLEANUP_SECONDS = 5.0
"""How long to wait for killed processes to go; one stuck inside the kernel must not hold the attempt for ever."""
_SUSPENDED_SECONDS = 1.0
"""How often to look for what somebody else has woken, or started, in a suspended family."""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> int:
    """Fork and exec `command` as the leader of a new session. Its stdin reaches end of file when the guard dies."""
    guard = os.getpid()
    stdin, _keep_open = os.pipe()
    pid = os.fork()
    if pid:
        os.close(stdin)
        return pid
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the line above could matter
            os._exit(1)
        os.dup2(stdin, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would pass that on
        os.execvp(command[0], command)  # noqa: S606 - a list of arguments, and no shell is wanted
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _signal_group(leader: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signum)


def _children(parent: int) -> list[int]:
    found: list[int] = []
    # A child belongs to the thread that forked it. Not Linux, or just gone: nothing is listed.
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, listed.read_text().split())
    return found


def _descendants() -> set[int]:
    found: set[int] = set()
    unseen = _children(os.getpid())
    while unseen:
        pid = unseen.pop()
        if pid not in found:
            found.add(pid)
            unseen += _children(pid)
    return found


def _suspend(leader: int) -> None:
    """Stop the group, and every descendant: until none is found that was not stopped before."""
    _signal_group(leader, signal.SIGSTOP)
    stopped: set[int] = set()
    while more := _descendants() - stopped:
        for pid in more:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        stopped |= more


def _resume(leader: int) -> None:
    _signal_group(leader, signal.SIGCONT)
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _reap(leader: int) -> tuple[int | None, bool]:
    """Collect dead children: the leader's wait status, if it was among them, and whether any child is left."""
    status = None
    while True:
        try:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, False
        if pid == 0:
            return status, True
        if pid == leader:
            status = wait_status


def _kill_everything(leader: int, status: int | None) -> int | None:
    """Kill the group and every descendant; the leader's wait status, from now or from before."""
    deadline = time.monotonic() + _CLEANUP_SECONDS
    while True:
        _signal_group(leader, signal.SIGKILL)
        for pid in _children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found, more = _reap(leader)
        status = status if found is None else found
        if not more or time.monotonic() > deadline:
            return status
        time.sleep(0.01)  # their own children become ours as they die: look again


def _watch(leader: int, wakeup: int) -> int | None:
    """Obey until the leader has ended (its wait status) or everything is to be killed (None)."""
    until, patience, suspended, unread = math.inf, math.inf, False, b""
    silent = 0.0
    while True:
        asked = time.monotonic()
        left = _SUSPENDED_SECONDS if suspended else until - asked
        ready, _, _ = select.select([0, wakeup], [], [], None if left == math.inf else max(0.0, left))
        # Never more than was waited for: who was suspended together with the worker has not missed anything.
        silent += min(time.monotonic() - asked, _SUSPENDED_SECONDS) if suspended else 0.0
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 512)
            status, _ = _reap(leader)
            if status is not None:
                return status
        if 0 in ready:
            silent = 0.0
            *orders, unread = (unread + (os.read(0, 512) or KILL + b"\n")).split(b"\n")
            for line in orders:
                order, _, value = line.partition(b" ")
                if order == KILL:
                    return None
                if order == TERMINATE:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(leader, signal.SIGTERM)
                elif order == TERMINATE_GROUP:
                    _signal_group(leader, signal.SIGTERM)
                elif order == RUN_UNTIL:
                    until, patience = map(float, value.split())
        late = time.monotonic() >= until
        if late and silent >= patience:
            return None
        if late:
            _suspend(leader)
        elif suspended:
            _resume(leader)
        suspended = late


def main(status_fd: int, command: list[str]) -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.set_inheritable(status_fd, False)
    wakeup, wakeup_write = os.pipe()
    for fd in (wakeup, wakeup_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wakeup_write)
    # Handlers, not SIG_IGN, which the trainer would inherit. Whoever signals a whole process tree means the worker,
    # which then decides about the trainer; the guard stays to the end.
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: None)

    leader = _start(command)
    os.write(status_fd, f"started {leader}\n".encode())
    # Or the worker would never see the end of the trainer's output.
    nothing = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(nothing, fd)

    status = _kill_everything(leader, _watch(leader, wakeup))
    code = os.waitstatus_to_exitcode(status) if status is not None else -signal.SIGKILL
    with contextlib.suppress(BrokenPipeError):
        os.write(status_fd, f"exited {code}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
