"""One trainer process behind its guard: started with a clean environment, told what to do, waited for.

Owns the pipes and the guard (worker/guard.py); knows neither jobs nor leases.
"""

import contextlib
import math
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from trainer.spec import failpoints
from worker import guard
from worker.lines import Readable

_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE",
    "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE",
    "ASYM_VERL_PYTHON", "RAY_ADDRESS",
)  # fmt: skip
_FAMILY = "ATTEMPT_FAMILY"
"""In the environment of a trainer and all that it starts: a mark of its own, for when the guard is killed."""
_LOOK_AGAIN_SECONDS = 1.0
_PASSED_ON_PREFIXES = (
    "LC_", "OMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "MALLOC_", "CUDA_", "NVIDIA_", "NCCL_", "TORCH_", "PYTORCH_",
)  # fmt: skip


def clean_environment(environment: Mapping[str, str], cuda_visible_devices: str) -> dict[str, str]:
    """What a trainer may see of the worker's environment: how to compute, nothing of the service, no secrets."""
    kept = {
        name: value for name, value in environment.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    if failpoints.VARIABLE in environment:  # in fault tests alone
        kept[failpoints.VARIABLE] = environment[failpoints.VARIABLE]
    return kept | {
        "CUDA_VISIBLE_DEVICES": cuda_visible_devices,
        # The order of nvidia-smi, by which the worker counted.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        # A segmentation fault leaves a traceback among the log lines.
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUTF8": "1",
        # `python -m trainer` must find the trainer that this worker's trainer.spec belongs to, from any folder.
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }


def _kill_marked(mark: str) -> None:
    """Kill every process that has inherited the mark, wherever it hangs."""
    while found := [process for process in psutil.process_iter() if _mark_of(process) == mark]:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_LOOK_AGAIN_SECONDS)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(_FAMILY)
    except (psutil.Error, OSError):  # gone, or another user's
        return None


class TrainerProcess:
    """A running trainer and everything it started. Orders never block and never fail: it may just have ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        run_dir: Path,
        environment: Mapping[str, str],
        on_end: Callable[[], None] = lambda: None,
        takes_orders: bool = False,
    ) -> None:
        """Start it. `on_end` is called once, from another thread, when nothing of it is left. OSError.

        `takes_orders`: it reads lines from a pipe whose descriptor it is told with --orders; `orders` is our end."""
        self._mark = secrets.token_hex(8)
        status_read, status_write = os.pipe()
        given = [status_write]
        self.orders: int | None = None
        if takes_orders:
            orders_read, self.orders = os.pipe()
            given.append(orders_read)
            command = [*command, "--orders", str(orders_read)]
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(status_write), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=run_dir,
                env={**environment, _FAMILY: self._mark},
                pass_fds=given,
                start_new_session=True,
            )
        except OSError:
            os.close(status_read)
            if self.orders is not None:
                os.close(self.orders)
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        self._status: IO[str] = os.fdopen(status_read, encoding="ascii")
        self._on_end = on_end
        self._ended = threading.Event()
        self.exit_code: int | None = None
        """As in subprocess; None until the end, and when the guard itself was killed."""
        threading.Thread(target=self._await_end, name="trainer-end", daemon=True).start()

    @property
    def stdout(self) -> Readable:
        return self._pipe(self._guard.stdout)

    @property
    def stderr(self) -> Readable:
        return self._pipe(self._guard.stderr)

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def terminate(self, *, group: bool = False) -> None:
        """SIGTERM to the trainer, or to its whole process group."""
        self._order(guard.TERMINATE_GROUP if group else guard.TERMINATE)

    def kill(self) -> None:
        """SIGKILL to the trainer and everything it started."""
        self._order(guard.KILL)

    def run_until(self, deadline: float, patience: float = math.inf) -> None:
        """Everything it is stands still from `deadline` (time.monotonic()) on, until a later one is given.

        patience: seconds of standing still without another order after which it is killed.
        """
        self._order(guard.RUN_UNTIL + f" {deadline!r} {patience!r}".encode())

    def close(self) -> None:
        """Let go of the process: kills what still runs. The output pipes are closed by those who read them."""
        self._pipe(self._guard.stdin).close()

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._pipe(self._guard.stdin).write(order + b"\n")

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise ValueError("the guard was started without this pipe")
        return pipe

    def _await_end(self) -> None:
        pid = None
        with self._status:
            for line in self._status:
                word, _, value = line.partition(" ")
                if word == "started":
                    pid = int(value)
                elif word == "exited":
                    self.exit_code = int(value)
        if self.exit_code is None and pid is not None:
            # Somebody killed the guard. The trainer died with it; what it started is found by its group and its mark.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            self._guard.wait()
            _kill_marked(self._mark)
        self._guard.wait()
        self._ended.set()
        self._on_end()
