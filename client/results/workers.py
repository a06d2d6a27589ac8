"""Workers and what they run."""

from typing import Literal, TypedDict


class Device(TypedDict):
    """A GPU of a worker; None for what it could not read."""

    name: str | None
    memory_gb: int | None


class RunningJob(TypedDict):
    id: str
    name: str
    gpus: int


class Worker(TypedDict):
    id: str
    name: str
    host: str
    state: Literal["alive", "draining", "lost"]
    gpus: int
    cpu_slots: int
    devices: list[Device]
    labels: list[str]
    busy_gpus: int
    """Of everyone's jobs; and the next."""
    busy_cpu_slots: int
    jobs: list[RunningJob]
    """The caller's team's."""
    kept_for: int | None
    """GPUs of the waiting job that its GPUs are kept free for."""
    version: str
    started_at: str
    heartbeat_at: str
