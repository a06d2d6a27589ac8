"""One verifier subprocess seen from its parent: started, fed a request at a time, killed with all it started.

Never blocks: what cannot be written or read at once waits for the pool's selector. Requests and replies are JSON
lines, so nothing that a verifier says can run code here.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "trainer.rewards.worker")
"""-P: a file of the working directory must not come before the standard library's."""

ROOT = Path(__file__).resolve().parents[2]
_MAX_REPLY_BYTES = 2**16
_STDERR_TAIL_BYTES = 2000


# Linux sends a child its parent's death signal when the *thread* that started it ends, so they are all started by one
# that ends with the process.
_starter = ThreadPoolExecutor(1, "verifier-starter")


def _renew_starter() -> None:
    global _starter
    _starter = ThreadPoolExecutor(1, "verifier-starter")


os.register_at_fork(after_in_child=_renew_starter)  # threads are not forked


class VerifierUnavailableError(RuntimeError):
    """The verifier's subprocess cannot even start. Its text ends with what the process said."""


class BrokenReplyError(Exception):
    """The process sent something that is no reply."""


class VerifierProcess:
    def __init__(self, command: tuple[str, ...], memory_bytes: int) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process is, closed by kill
        self._process = _starter.submit(
            subprocess.Popen[bytes],
            [*command, "--parent", str(os.getpid()), "--memory-bytes", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd="/",
            env=environment(),
            start_new_session=True,
        ).result()
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self.stdin_fd = self._process.stdin.fileno()
        self.stdout_fd = self._process.stdout.fileno()
        os.set_blocking(self.stdin_fd, False)
        os.set_blocking(self.stdout_fd, False)
        self._unsent = b""
        self._received = b""
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, request: dict[str, object]) -> None:
        """Send it, or as much as the pipe takes; `flush` sends the rest. BrokenPipeError when the process is gone."""
        self._unsent += json.dumps(request).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[os.write(self.stdin_fd, self._unsent) :]

    def receive(self) -> list[dict[str, object]] | None:
        """The replies that have come; None when the process has closed its end. BrokenReplyError for anything else."""
        try:
            chunk = os.read(self.stdout_fd, _MAX_REPLY_BYTES)
        except BlockingIOError:
            return []
        if not chunk:
            return None
        *lines, self._received = (self._received + chunk).split(b"\n")
        if len(self._received) > _MAX_REPLY_BYTES:
            raise BrokenReplyError("a reply without end")
        return [_reply(line) for line in lines]

    def kill(self) -> None:
        """Kill its whole process group and collect it. Does nothing when it is gone already."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def over_its_cpu_limit(self) -> bool:
        """Whether the kernel ended it for the processor time it took. Call before `kill`."""
        try:
            return self._process.wait(timeout=1) in (-signal.SIGXCPU, 128 + signal.SIGXCPU)
        except subprocess.TimeoutExpired:
            return False

    def last_words(self) -> str:
        """The end of what it wrote to stderr. Call before `kill`."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL_BYTES))
        return self._stderr.read().decode(errors="replace").strip()


def _reply(line: bytes) -> dict[str, object]:
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        raise BrokenReplyError(f"not JSON: {line[:80]!r}") from None
    if not isinstance(reply, dict):
        raise BrokenReplyError(f"not an object: {line[:80]!r}")
    return reply


def environment() -> dict[str, str]:
    """What Python needs to start and find this package; nothing else of ours is a verifier's business."""
    needed = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    inherited = {name: value for name in needed if (value := os.environ.get(name))}
    # Where the operator has put further packages, plugins among them; an empty part would be the folder it runs in.
    path = [str(ROOT), *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
    return {**inherited, "PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
