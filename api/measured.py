"""What GET /metrics tells: what this process counts of itself, and the latest census of the platform."""

import time
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Histogram

from store import census
from store.database import Database

LOOK_SECONDS = 5.0
"""How long one look into the database serves every scrape."""

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""


class Measured:
    """Labels are routes as they are written in the code (`/jobs/{job_id}`), never what a request had in their place."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "asym_http_requests", "Answered requests.", ("method", "route", "status"), registry=self.registry
        )
        self.latency = Histogram(
            "asym_http_request_seconds",
            "From a request's arrival to the beginning of its answer.",
            ("method", "route"),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.webhook_tries = Counter(
            "asym_webhook_tries",
            "Calls of webhooks, by what became of it: delivered, pending (to be tried again), failed, lost.",
            ("status",),
            registry=self.registry,
        )


class LatestCensus:
    """What the database says of the whole platform, looked up at most every `LOOK_SECONDS`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._taken = float("-inf")
        self._census: census.Census | None = None

    def latest(self) -> census.Census:
        with self._lock:
            if self._census is None or time.monotonic() - self._taken > LOOK_SECONDS:
                with self._database.transaction() as session:
                    self._census = census.take(session)
                self._taken = time.monotonic()
            return self._census
