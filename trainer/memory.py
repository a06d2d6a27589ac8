"""How much memory the run has needed at most, and what a run on the CPU does to need less."""

import ctypes
import os
import platform
import resource

import torch

_M_MMAP_THRESHOLD = -3
"""glibc's malloc.h."""
LARGE_BLOCK = 512 * 1024
"""Bytes from which on a block is the system's again when it is freed."""
ONEDNN_KERNELS = 64
"""How many of oneDNN's kernels are kept; each new length of a prompt needs others, and by itself it keeps 1,024."""


def hold_little(device: torch.device) -> None:
    """On a CPU, let go of freed memory: glibc's malloc and oneDNN keep about an eighth of a run's peak otherwise.

    For the whole process: an eighth to a quarter of a step's time (docs/performance.md). MALLOC_MMAP_THRESHOLD_
    and ONEDNN_PRIMITIVE_CACHE_CAPACITY of the environment say otherwise. Other allocators than glibc's are left alone.
    """
    if device.type != "cpu":
        return
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_KERNELS))
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def peak_memory_bytes(device: torch.device) -> int:
    """The most this process has held since it began: of the GPU's memory, or on the CPU its resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
