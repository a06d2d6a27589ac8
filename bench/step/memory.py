"""Memory of this process: resident on the CPU, allocated by torch on a GPU."""

import re
import resource
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def memory_bytes(device: torch.device) -> int:
    """Held now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _resident("VmRSS")


def peak_memory_bytes(device: torch.device) -> int:
    """The most ever held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident("VmHWM")


def _resident(name: str) -> int:
    """Linux' own count. getrusage's maximum would do for the peak, but it begins with that of the parent process."""
    if not _STATUS.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    match = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{_STATUS} does not tell {name}")
    return int(match[1]) * 1024
