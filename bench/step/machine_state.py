"""What the machine is, and how much of it others use while something is measured."""

import os
import platform
import re
import time
from pathlib import Path

import psutil


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, str | int]:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    named = set(flags[1].split()) if flags else set()
    return {
        "cpu": model[1] if model else platform.processor(),
        "instructions": " ".join(sorted(named & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"})),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
    }


def wait_until_quiet(minutes: float, load: float = 0.5) -> bool:
    """Wait at most so long for the one-minute load average to fall below `load`; whether it did."""
    deadline = time.monotonic() + 60 * minutes
    while os.getloadavg()[0] >= load:
        if time.monotonic() >= deadline:
            return False
        time.sleep(5)
    return True


class CpuUse:
    """CPU seconds of one process, and of everybody else, since this object was made."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began = self._now()

    def _now(self) -> tuple[float, float, float]:
        own, all_cores = self._process.cpu_times(), psutil.cpu_times()
        busy = sum(all_cores) - all_cores.idle - getattr(all_cores, "iowait", 0.0)
        # Time of virtual machines is in `user` too.
        busy -= getattr(all_cores, "guest", 0.0) + getattr(all_cores, "guest_nice", 0.0)
        return own.user + own.system, busy, time.monotonic()

    def since(self) -> tuple[float, float]:
        """(CPU seconds of the process, share of the machine's CPU time that others used)."""
        own, busy, now = (b - a for a, b in zip(self._began, self._now(), strict=True))
        capacity = now * (os.cpu_count() or 1)
        return own, min(1.0, max(0.0, (busy - own) / capacity)) if capacity else 0.0
