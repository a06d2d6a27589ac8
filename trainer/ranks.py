"""The processes that share one run, one per GPU: which of them this is, and how they tell each other what they found.

A run of one process is a world of its own, where nothing is sent. What is sent are tensors and JSON, never pickles, and
always between CPUs: the gradients and weights that go from GPU to GPU are FSDP's business (`trainer.sharding`).
Every method but `leads` is called by all ranks, in the same order, or the run hangs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
from pydantic import JsonValue
from torch import Tensor

from trainer.errors import RunError

PATIENCE = timedelta(days=2)
"""How long a rank waits for the others: they may verify slowly, or be suspended all together. Of a rank that died they
hear otherwise (`trainer.launch`)."""


class OtherRankOutOfMemoryError(Exception):
    """Another rank has left what all were doing together, since its device's memory is full."""


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one rank that writes files."""
        return self.rank == 0

    def gather(self, own: Tensor) -> list[Tensor]:
        """Every rank's tensor, on the CPU, in the order of the ranks; their first dimensions may differ."""
        own = own.cpu().contiguous()
        if self.size == 1:
            return [own]
        length = torch.tensor([len(own)])
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        torch.distributed.all_gather(lengths, length)
        longest = max(int(each) for each in lengths)
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(parts, padded)
        return [part[: int(length)] for part, length in zip(parts, lengths, strict=True)]

    def gather_json(self, own: JsonValue) -> list[JsonValue]:
        """Every rank's value, in the order of the ranks."""
        if self.size == 1:
            return [own]
        sent = torch.frombuffer(bytearray(json.dumps(own).encode()), dtype=torch.uint8)
        return [json.loads(part.numpy().tobytes()) for part in self.gather(sent)]

    def sum(self, own: Tensor) -> Tensor:
        """The sum of all ranks' tensors, which are alike, on the CPU."""
        if self.size == 1:
            return own
        total = own.cpu().clone()
        torch.distributed.all_reduce(total)
        return total

    def any(self, own: bool) -> bool:
        return bool(self.sum(torch.tensor([int(own)])).item())

    def max(self, own: int) -> int:
        return int(max(self.gather(torch.tensor([own]))))

    def meet(self) -> None:
        """Go on when all ranks are here; OtherRankOutOfMemoryError when one of them says that it will not come.

        Where a rank may run out of memory, all of them meet before anything that needs all of them, so that nobody
        waits for who is not there.
        """
        if self.any(False):
            raise OtherRankOutOfMemoryError

    def leave(self) -> None:
        """Say to the others, at the next place where they meet, that this one's memory is full."""
        self.any(True)


ALONE = World()


@contextmanager
def join(rank: int, size: int, rendezvous: Path, *, on_cpu: bool) -> Iterator[World]:
    """Meet the other ranks at the file `rendezvous`, which no run before has used; each takes the GPU of its number.

    RunError `too_few_gpus` where there are not so many, unless there is none at all and `on_cpu` allows that.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus < size and (gpus or not on_cpu):
        raise RunError("too_few_gpus", f"the run is to have {size} GPUs, and this process sees {gpus}")
    if gpus:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo",
        store=torch.distributed.FileStore(str(rendezvous), size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    yield World(rank, size)
    # After an error the others may be anywhere; the process ends, and the group with it.
    torch.distributed.destroy_process_group()
