"""Which engines a rank runs, and on which GPUs: on its own, or the leading rank on GPUs that are theirs alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer.errors import RunError
from trainer.ranks import World


@dataclass(frozen=True)
class Places:
    """The engines that one rank runs."""

    gpus: tuple[str | None, ...]
    """For each of them its CUDA_VISIBLE_DEVICES; None: those of this process."""
    shared: bool
    """Whether the trainer computes there too."""


def places(own_gpus: int, world: World, visible: Sequence[str]) -> Places:
    """own_gpus: how many GPUs are the engines' alone. visible: the entries of this process's CUDA_VISIBLE_DEVICES, of
    which the ranks have the first ones (`trainer.ranks.join`) and the engines those behind; without any, engines are
    processes on the CPU. RunError `too_few_gpus`."""
    if visible and len(visible) < world.size + own_gpus:
        raise RunError(
            "too_few_gpus",
            f"the run is to have {world.size + own_gpus} GPUs, {own_gpus} of them for generation, and this process "
            f"sees {len(visible)}",
        )
    if own_gpus == 0:
        return Places((visible[world.rank] if visible and world.size > 1 else None,), shared=True)
    if not world.leads:
        return Places((), shared=False)
    return Places(tuple(visible[world.size : world.size + own_gpus]) or (None,) * own_gpus, shared=False)


def visible_gpus() -> list[str]:
    """As entries of CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA reads the list up to the first entry that is no device.
    return ([str(i) for i in range(count)] if given is None else [each.strip() for each in given.split(",")])[:count]
