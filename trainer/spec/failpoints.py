"""Failpoints: named places where a fault test makes a process die, hang or meet a full disk. Otherwise they do nothing.

Only the environment variable ASYM_FAILPOINTS arms them, never a spec or a request: it names a folder, and a fault is a
file `POINT#ANYTHING.json` in it, `{"action": "kill", "skip": 2, "of": "job_...", "again": true}`:

    action    what happens, see `Action`
    skip      how often a process passes here unharmed before (default 0)
    of        only in processes, or for jobs, that have this in their command line or name (default: any)
    again     stays armed; otherwise the first process that gets here moves the file into `fired/`, with its pid and
              the path at hand, and no other does

`hold` waits until a file of the same name is in `released/`: then a test can let something else happen just now.

    point                 where                                                     process
    api.upload            a chunk of a data set has been received                   api
    api.committed         the job's row is committed, the doorbell not yet rung     api
    api.created           a sweep and its jobs are committed, nobody knows of it    api
    api.webhook_taken     a delivery is taken on, the webhook not yet called        api
    api.webhook_called    the webhook was called, nobody has written how it went    api
    worker.claimed        the claim is committed, nothing is started                worker
    worker.prepared       the run's folder is made, the trainer not yet started     worker
    worker.recording      a batch is to be stored                                   worker
    worker.recorded       a batch is stored, what follows from it not yet done      worker
    worker.checkpoint     a batch with a checkpoint is to be stored                 worker
    worker.settling       all is stored but how the attempt ended                   worker
    worker.settled        how the attempt ended is stored                           worker
    worker.spool          something is to be written to the spool                   worker
    trainer.load          before the model is loaded                                trainer
    trainer.rollout       before the step's rollouts                                trainer
    trainer.update        before an update of the weights                           trainer
    trainer.step          the step's metrics are said                               trainer
    checkpoint.file       before and after each file of a checkpoint (`short` cuts
                          the file that was written)                                trainer
    checkpoint.written    it lies in its place, nobody has been told (`flip` and
                          `short` damage one of its files)                          trainer
    trainer.done          before the last word                                      trainer
    sampler.load          before the model is loaded                                sampler
    sampler.judge         a sample has ended, and is to be judged                   sampler

Standard library only: the API, the worker and the trainer all pass here.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path

VARIABLE = "ASYM_FAILPOINTS"
FIRED, RELEASED = "fired", "released"
_LONGEST_HOLD_SECONDS = 60.0
_MEMORY_HEADROOM_BYTES = 256 << 20


class Action(StrEnum):
    KILL = "kill"
    """SIGKILL to this process."""
    STOP = "stop"
    """SIGSTOP to this process."""
    SEGFAULT = "segfault"
    """Read from address 0."""
    HOLD = "hold"
    """Wait here until it is released, a minute at most."""
    HANG = "hang"
    """Never come back."""
    SPIN = "spin"
    """Never come back, and compute."""
    ENOSPC = "enospc"
    """OSError: no space left on device."""
    MEMORY = "memory"
    """MemoryError, after having taken all that a limit lets it have."""
    SHORT = "short"
    """Cut the file at hand in half, without a word."""
    FLIP = "flip"
    """Flip one bit in the middle of the file at hand, without a word."""


_folder = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
_passed: Counter[str] = Counter()


def hit(point: str, *, of: str = "", path: Path | None = None) -> None:
    """Pass here, or not. `of`: whose turn it is; `path`: the file, or the folder of files, at hand."""
    if _folder is not None:
        _hit(_folder, point, of, path)


def _hit(folder: Path, point: str, of: str, path: Path | None) -> None:
    for armed in sorted(folder.glob(f"{point}#*.json")):
        try:
            fault = json.loads(armed.read_text())
        except FileNotFoundError:  # another process was faster
            continue
        if fault.get("of", "") not in f"{of} {' '.join(sys.argv)}":
            continue
        _passed[armed.name] += 1
        if _passed[armed.name] <= fault.get("skip", 0):
            continue
        if not fault.get("again"):
            fired = folder / FIRED / armed.name
            fired.parent.mkdir(exist_ok=True)
            try:
                armed.rename(fired)
            except FileNotFoundError:
                continue
            fired.write_text(json.dumps({**fault, "pid": os.getpid(), "path": None if path is None else str(path)}))
        if fault["action"] == Action.HOLD:
            _hold(folder / RELEASED / armed.name)
        else:
            _act(Action(fault["action"]), path)


def _hold(released: Path) -> None:
    deadline = time.monotonic() + _LONGEST_HOLD_SECONDS
    while not released.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def _act(action: Action, path: Path | None) -> None:
    match action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.SEGFAULT:
            ctypes.string_at(0)
        case Action.HANG:
            while True:
                time.sleep(3600)
        case Action.SPIN:
            while True:
                pass
        case Action.ENOSPC:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), None if path is None else str(path))
        case Action.MEMORY:
            _exhaust_memory()
        case Action.SHORT | Action.FLIP:
            _damage(action, path)


def _exhaust_memory() -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY_HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    taken = []
    while True:
        taken.append(bytearray(16 << 20))


def _damage(action: Action, path: Path | None) -> None:
    if path is None:
        raise ValueError(f"{action} needs a file")
    if path.is_dir():
        # The manifest apart, whose hash is kept elsewhere too: the largest is the one that a disk hits most likely.
        files = [file for file in path.rglob("*") if file.is_file() and file.name != "manifest.json"]
        path = max(files, key=lambda file: (file.stat().st_size, file.name))
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if action is Action.SHORT:
            file.truncate(size // 2)
        elif size:
            file.seek(size // 2)
            byte = file.read(1)[0]
            file.seek(size // 2)
            file.write(bytes([byte ^ 1]))
