"""The policy's weights as files that vLLM's processes on this machine read."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from trainer.models.policy import Policy


def weights_room(policy: Policy, dtype: torch.dtype) -> int:
    """Bytes that a folder is to have free for them, with as much again to spare."""
    numbers: int = sum(each.numel() for each in policy.model.parameters())
    return 2 * numbers * dtype.itemsize


def write_weights(policy: Policy, folder: Path | None, dtype: torch.dtype) -> None:
    """A safetensors file for each part of `Policy.named_weights`, in `dtype`, numbered in their order.

    Called by all ranks, those that write nothing (None) too: what is spread over the ranks is gathered a part at a
    time, and no more than that is whole anywhere but in the files."""
    for number, part in enumerate(policy.named_weights()):
        if folder is not None:
            tensors = {name: tensor.to(dtype).cpu().contiguous() for name, tensor in part.items()}
            save_file(tensors, folder / f"{number:05}.safetensors")
