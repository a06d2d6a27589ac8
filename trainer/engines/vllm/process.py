"""vLLM's process from the trainer's side: started with a folder of its own, asked, ended. JSON lines, no pickles."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trainer.errors import EngineError, RunError

_ROOT = Path(__file__).resolve().parents[3]
_CHILD = Path(__file__).with_name("child.py")
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it, readable by this user alone

_ENVIRONMENT = {
    # The engine's core and worker in the child process itself: nothing outlives it, and what is batched with what
    # depends on the requests alone, not on how two processes were scheduled.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The older runner runs on both CPU and GPU, so that what is tested on the one holds on the other.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
    # Threads go where the operating system puts them, as many as OMP_NUM_THREADS says.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "PYTHONWARNINGS": "ignore::FutureWarning",  # of torch, at each start, in code that is not ours
    # Nothing is reported and nothing is fetched.
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


class ChildProcess:
    """child.py of this package, which ends when this process does, however that ends.

    environment: what it gets besides ours. Everything it says but its answers goes to stderr.
    room: bytes that `folder`, which both processes see and which goes with the child, is to hold; in memory if it can.
    """

    def __init__(self, environment: Mapping[str, str], *, room: int) -> None:
        in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > room
        self.folder = Path(tempfile.mkdtemp(prefix="asym-vllm-", dir=_MEMORY if in_memory else None))
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Warnings of vLLM's about every weight hand-over drown the log; what fails comes as an answer.
        quiet = {"VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR")}
        self._call = "start"
        try:
            self._process = subprocess.Popen(
                # -P: no file beside it or in the working directory may come before the installed packages.
                [sys.executable, "-P", str(_CHILD), str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **_ENVIRONMENT, **quiet, **environment, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, call: str, **arguments: object) -> None:
        """Make a call whose result `receive` will give; in the meantime others may be asked."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        self._call = call
        # Of a process that has ended `receive` tells.
        with contextlib.suppress(BrokenPipeError, ValueError):
            stdin.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The result of the call that was sent. RunError `engine_refused` when vLLM will not have what it was given;
        EngineError when it broke."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101
        try:
            line = stdout.readline()
        except ValueError:
            line = b""
        if not line:
            raise EngineError(
                f"vLLM's process ended ({self._ending()}) during {self._call}; its last words are in the log"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" not in answer:
            result: dict[str, Any] = answer["result"]
            return result
        message = f"vLLM: {answer['error']}"
        raise RunError("engine_refused", message) if answer["kind"] == "refused" else EngineError(message)

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=10)
            return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return "without an exit code"

    def close(self) -> None:
        """End it, at once. Does nothing when it is gone already."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
