"""How many jobs this worker can run at once, and which GPUs each of them gets. Counted without torch."""

import csv
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from store.workers import Device

_NVIDIA_SMI_SECONDS = 10


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs this process may use, as entries for CUDA_VISIBLE_DEVICES: its own list if set, else nvidia-smi's."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # As CUDA reads it: an entry that is no device hides itself and everything after it.
        entries = [entry.strip() for entry in given.split(",")]
        valid = [entry.isdecimal() or entry.startswith(("GPU-", "MIG-")) for entry in entries]
        return entries[: valid.index(False)] if False in valid else entries
    listed = _nvidia_smi("-L")
    return [str(index) for index, _ in enumerate(filter(lambda line: line.startswith("GPU "), listed))]


def describe_gpus(entries: Sequence[str]) -> list[Device]:
    """Name and memory of each entry for CUDA_VISIBLE_DEVICES, as nvidia-smi tells them; None for what it does not."""
    known: list[tuple[str, str, Device]] = []
    for row in csv.reader(
        _nvidia_smi("--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"), skipinitialspace=True
    ):
        if len(row) == 4:
            index, uuid, name, mebibytes = (cell.strip() for cell in row)
            memory = round(int(mebibytes) * 2**20 / 1e9) if mebibytes.isdecimal() else None
            known.append((index, uuid, Device(name=name, memory_gb=memory)))

    def find(entry: str) -> Device:
        # CUDA takes the beginning of a UUID too. A MIG device is a part of a GPU, of a size that is not listed here.
        found = [each for index, uuid, each in known if index == entry or ("-" in entry and uuid.startswith(entry))]
        return found[0] if len(found) == 1 else Device(name=None, memory_gb=None)

    return [find(entry) for entry in entries]


def _nvidia_smi(*arguments: str) -> list[str]:
    """The lines it prints; none without a driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def offered_gpus(visible: list[str], limit: int | None) -> list[str]:
    """The GPUs to offer when the operator says how many. ValueError when there are not so many."""
    if limit is None:
        return visible
    if not 0 <= limit <= len(visible):
        raise ValueError(f"asked to offer {limit} GPUs; visible are {len(visible)}")
    return visible[:limit]


class Share(NamedTuple):
    """What one running job holds: some GPUs, or one CPU slot."""

    gpus: tuple[str, ...]
    cpu_slots: int


class Slots:
    """Free GPUs and CPU slots of one worker. Taken by the claiming thread, given back by the attempts' threads."""

    def __init__(self, gpus: Sequence[str], cpu_slots: int, memory: Sequence[int | None] = ()) -> None:
        """`memory`: GB of each GPU, where it is known."""
        self._lock = threading.Lock()
        self._gpus = list(gpus)
        self._memory = dict(zip(gpus, memory, strict=False))
        self._cpu_slots = cpu_slots

    @property
    def free_gpus(self) -> list[int | None]:
        """The memory of each that is free, in GB; None where unknown."""
        with self._lock:
            return [self._memory.get(gpu) for gpu in self._gpus]

    @property
    def free_cpu_slots(self) -> int:
        with self._lock:
            return self._cpu_slots

    def take(self, gpus: int, gpu_memory: int | None = None) -> Share:
        """Room for a job with so many GPUs of so many GB; 0 takes a CPU slot. ValueError when it is not free."""
        with self._lock:
            fitting = [gpu for gpu in self._gpus if (self._memory.get(gpu) or 0) >= (gpu_memory or 0)]
            if gpus > len(fitting) or (gpus == 0 and self._cpu_slots == 0):
                raise ValueError(f"no room for a job with {gpus} GPUs")
            # The smallest that will do: the others may be what another job asks for.
            chosen = tuple(sorted(fitting, key=lambda gpu: self._memory.get(gpu) or 0)[:gpus])
            self._gpus = [gpu for gpu in self._gpus if gpu not in chosen]
            share = Share(chosen, 0 if gpus else 1)
            self._cpu_slots -= share.cpu_slots
            return share

    def give_back(self, share: Share) -> None:
        with self._lock:
            self._gpus.extend(share.gpus)
            self._cpu_slots += share.cpu_slots
