"""What a worker counts of itself, for Prometheus (worker.telemetry serves it). Labels are few and known: no job, team
or name is among them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from store.errors import LeaseLost
from store.status import JobStatus
from trainer.spec.events import Checkpoint, Event, Rollouts, Step

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LOST = "lost"
"""How an attempt ended whose lease is another's now, or was left to run out."""


class Measured:
    """One for a worker; those of tests that do not look are thrown away."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.claims = Counter("asym_worker_claims", "Jobs this worker has claimed.", registry=self.registry)
        self.attempts = Counter(
            "asym_worker_attempts",
            "Attempts that have ended, by the job's status then; lost: the job was no longer this worker's.",
            ("end",),
            registry=self.registry,
        )
        self.renewals = Counter(
            "asym_worker_lease_renewals",
            "Renewals of leases: renewed, lost (another has the job), failed (the database did not answer).",
            ("result",),
            registry=self.registry,
        )
        self.renewal_seconds = Histogram(
            "asym_worker_lease_renewal_seconds",
            "How long renewals took, however they ended.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.record_seconds = Histogram(
            "asym_worker_record_seconds",
            "How long storing a batch of a trainer's events took.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.steps = Counter("asym_worker_steps", "Training steps stored, of all jobs.", registry=self.registry)
        self.rollouts = Counter("asym_worker_rollouts", "Rollouts stored, of all jobs.", registry=self.registry)
        self.checkpoints = Counter("asym_worker_checkpoints", "Checkpoints stored.", registry=self.registry)
        # So that they are there, as 0, before the first time.
        for end in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED, JobStatus.QUEUED):
            self.attempts.labels(end.value)
        self.attempts.labels(LOST)
        for result in ("renewed", "lost", "failed"):
            self.renewals.labels(result)

    @contextmanager
    def renewal(self) -> Iterator[None]:
        """Count and time the renewal in this block."""
        began, result = time.perf_counter(), "failed"
        try:
            yield
            result = "renewed"
        except LeaseLost:
            result = "lost"
            raise
        finally:
            self.renewal_seconds.observe(time.perf_counter() - began)
            self.renewals.labels(result).inc()

    def stored(self, events: Sequence[Event], seconds: float) -> None:
        """A batch is in the database. One whose answer was lost, and that came again, counts twice."""
        self.record_seconds.observe(seconds)
        for event in events:
            match event:
                case Step():
                    self.steps.inc()
                case Rollouts():
                    self.rollouts.inc(len(event.rollouts))
                case Checkpoint():
                    self.checkpoints.inc()
