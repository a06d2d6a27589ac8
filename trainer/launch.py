"""Starts the ranks of a run, `python -m trainer` with the same arguments for each, and is one trainer to the outside.

The first rank's events are the run's. A `failed` event of any rank is, too: it ends them all, and of several the
earliest is told, since the others only lost their peer. A SIGTERM is passed on, and the ranks agree after which step to
stop; when a rank dies the others are killed; when this process dies, however that be, their stdin ends, and so do they.

torchrun does not do: it turns every exit status into 1 (a stopped run's is 75), and kills what has not ended half a
minute after a SIGTERM, be it in the middle of a step.

Standard library and events only: the ranks' memory is enough.
"""

import fcntl
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from trainer.event_stream import EventStream
from trainer.spec.events import EXIT_DONE, EXIT_INFRASTRUCTURE_ERROR, EXIT_STOPPED, EXIT_USER_ERROR, Failed, parse_event

_PREFIX, _LOCK = "asym-ranks-", "lock"
TRAINER = (sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "trainer")


def launch(
    arguments: Sequence[str], ranks: int, events: EventStream, stop: threading.Event, command: Sequence[str] = TRAINER
) -> int:
    """Run `command` with `arguments` as `ranks` processes to their end; the exit code of the run. Main thread only.

    stop: whether a SIGTERM has come before.
    A rank that was killed by a signal takes this process with it by the same signal, unless a rank says why it failed.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(*_: object) -> None:
        stop.set()
        for process in processes:
            process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with meeting_place() as folder:
            for rank in range(ranks):
                place = ["--rank", str(rank), "--ranks", str(ranks), "--rendezvous", str(Path(folder) / "rendezvous")]
                # Their own group it is not: whoever suspends or kills this process's means them too.
                processes.append(
                    subprocess.Popen(
                        [*command, *arguments, *place],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        env=_environment(ranks),
                    )
                )
            if stop.is_set():
                pass_on()
            code = _follow(processes, events)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


@contextmanager
def meeting_place() -> Iterator[str]:
    """A folder to meet in; gone at the end, and those of launchers that were killed go with the next one's start."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError), left.open("r+b") as lock:  # held by a launcher that lives, or another user's
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, (Path(folder) / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _environment(ranks: int) -> dict[str, str]:
    return {
        # All ranks are on this machine, and what they say to each other is nobody else's business.
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks)),
        **os.environ,
    }


def _follow(processes: Sequence["subprocess.Popen[bytes]"], events: EventStream) -> int:
    """Pass on what is to be passed on until all have ended, or must: the run's exit code, negative for a signal."""
    said: queue.Queue[tuple[int, bytes | None]] = queue.Queue()

    def listen(rank: int, pipe: IO[bytes]) -> None:
        for line in pipe:
            said.put((rank, line))
        said.put((rank, None))

    for rank, process in enumerate(processes):
        if process.stdout is None:
            raise ValueError("the rank was started without a pipe")
        threading.Thread(target=listen, args=(rank, process.stdout), name=f"rank {rank}", daemon=True).start()
    failures: list[Failed] = []
    code, running = EXIT_DONE, len(processes)
    while running:
        rank, line = said.get()
        failed = None if line is None or b'"failed"' not in line else parse_event(line)
        if line is None:
            running -= 1
            ended = processes[rank].wait()
            # The first that ends other than well decides; those that follow were killed for it.
            code = ended if code in (EXIT_DONE, EXIT_STOPPED) else code
        elif isinstance(failed, Failed):
            failures.append(failed)
        elif rank == 0:
            events.relay(line.decode())
        if failures or code not in (EXIT_DONE, EXIT_STOPPED):
            for process in processes:
                process.kill()
    if not failures:
        return code
    first = min(failures, key=lambda failure: failure.time)
    events.relay(first.model_dump_json() + "\n")
    return EXIT_USER_ERROR if first.kind == "user" else EXIT_INFRASTRUCTURE_ERROR
