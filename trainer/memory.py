"""How much memory the run has needed at most."""

import resource

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """The most this process has held since it began: of the GPU's memory, or on the CPU its resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
