"""The verl process: started, asked whether it still runs, ended with what it started. It never outlives this one."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_SECONDS = 30.0
"""How long Ray may take to end its workers after SIGTERM before the process group is killed."""
_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 16_000


class VerlProcess:
    """`command` as the leader of a process group of its own, its output in `log`. To be started and used by the main
    thread: Linux ends a child with the thread that started it."""

    def __init__(self, command: Sequence[str], *, cwd: Path, log: Path, environment: Mapping[str, str]) -> None:
        parent = os.getpid()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def die_with_parent() -> None:  # between fork and exec: nothing in it takes a lock
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
                if os.getppid() != parent:  # it died before the line above could matter
                    os._exit(1)

        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(environment),
                process_group=0,
                preexec_fn=die_with_parent,
            )

    def wait(self, seconds: float) -> int | None:
        """The exit code as soon as there is one (-9 is SIGKILL); None when it still runs after so long."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def last_lines(self, count: int) -> list[str]:
        """The end of what it said."""
        with self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-count:]

    def end(self) -> None:
        """SIGTERM to the driver, on which Ray ends its workers; SIGKILL to the group when that takes too long."""
        if self._process.poll() is None:
            self._process.terminate()
            if self.wait(STOP_SECONDS) is not None:
                return
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
