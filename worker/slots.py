"""How many jobs this worker can run at once, and which GPUs each of them gets. Counted without torch."""

import subprocess
import threading
from collections.abc import Mapping
from typing import NamedTuple

_NVIDIA_SMI_SECONDS = 10


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs this process may use, as entries for CUDA_VISIBLE_DEVICES: its own list if set, else nvidia-smi's."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # As CUDA reads it: an entry that is no device hides itself and everything after it.
        entries = [entry.strip() for entry in given.split(",")]
        valid = [entry.isdecimal() or entry.startswith(("GPU-", "MIG-")) for entry in entries]
        return entries[: valid.index(False)] if False in valid else entries
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no driver, no GPU
        return []
    return [
        str(index) for index, _ in enumerate(filter(lambda line: line.startswith("GPU "), listed.stdout.splitlines()))
    ]


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

    def __init__(self, gpus: list[str], cpu_slots: int) -> None:
        self._lock = threading.Lock()
        self._gpus = list(gpus)
        self._cpu_slots = cpu_slots

    @property
    def free_gpus(self) -> int:
        with self._lock:
            return len(self._gpus)

    @property
    def free_cpu_slots(self) -> int:
        with self._lock:
            return self._cpu_slots

    def take(self, gpus: int) -> Share:
        """Room for a job with so many GPUs; 0 takes a CPU slot. ValueError when it is not free."""
        with self._lock:
            if gpus > len(self._gpus) or (gpus == 0 and self._cpu_slots == 0):
                raise ValueError(f"no room for a job with {gpus} GPUs")
            share = Share(tuple(self._gpus[:gpus]), 0 if gpus else 1)
            del self._gpus[:gpus]
            self._cpu_slots -= share.cpu_slots
            return share

    def give_back(self, share: Share) -> None:
        with self._lock:
            self._gpus.extend(share.gpus)
            self._cpu_slots += share.cpu_slots
