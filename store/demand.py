"""What a job demands of a worker, as one word: jobs with the same word fit the same workers.

The queue's index is ordered by (team, demand), so that a claim looks at one job of each kind however many wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from trainer.spec.job import ResourcesSpec


@dataclass(frozen=True)
class Demand:
    gpus: int | None
    """None is auto: one GPU on a worker that has any, else the CPU. 0: a CPU slot."""
    gpu_memory: int | None = None
    """GB that each of them has at least."""
    labels: tuple[str, ...] = ()
    """The worker has all of them. Sorted."""

    @classmethod
    def of(cls, resources: ResourcesSpec) -> Self:
        gpus = None if resources.gpus == "auto" else resources.gpus
        if gpus is None and resources.gpu_memory is not None:
            gpus = 1  # which no CPU has
        return cls(gpus, resources.gpu_memory, tuple(sorted(set(resources.labels))))

    @classmethod
    def parse(cls, word: str) -> Self:
        gpus, memory, labels = word.split("/")
        return cls(
            None if gpus == "auto" else int(gpus),
            int(memory) if memory else None,
            tuple(labels.split(",")) if labels else (),
        )

    def __str__(self) -> str:
        """`2/80/a100,ib`; `auto//` asks for nothing in particular. store.leases takes it apart in SQL."""
        gpus = "auto" if self.gpus is None else self.gpus
        return f"{gpus}/{self.gpu_memory or ''}/{','.join(self.labels)}"

    def takes(self, worker_gpus: int) -> int:
        """How many GPUs it takes on a worker that has so many; 0 is a CPU slot."""
        return min(worker_gpus, 1) if self.gpus is None else self.gpus

    def suits(self, memory: Sequence[int | None]) -> int:
        """How many GPUs of these sizes (GB; None is unknown) have the memory."""
        wanted = self.gpu_memory
        return len(memory) if wanted is None else sum(size is not None and size >= wanted for size in memory)


CLASSES_SQL = """class AS (
    (SELECT team_id, demand FROM jobs WHERE status = 'queued' ORDER BY team_id, demand LIMIT 1)
    UNION ALL
    SELECT next.team_id, next.demand FROM class CROSS JOIN LATERAL (
        SELECT team_id, demand FROM jobs
        WHERE status = 'queued' AND (team_id, demand) > (class.team_id, class.demand)
        ORDER BY team_id, demand LIMIT 1
    ) AS next
)"""
"""A part of WITH RECURSIVE: each (team_id, demand) of the queue, by hops through the index ix_jobs_claim."""
