"""Serves what a worker counts, and how it stands, to Prometheus: at ASYM_WORKER_METRICS_PORT, off unless that is set.

On this machine's loopback unless ASYM_WORKER_METRICS_HOST says otherwise. There is no token: what is told holds no name
of anybody's, and whoever opens the port to others decides who reaches it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from store.errors import SettingsError
from store.settings import Settings
from worker.measured import Measured


@dataclass(frozen=True)
class Standing:
    """A worker at this moment."""

    gpus: int
    gpus_free: int
    cpu_slots: int
    cpu_slots_free: int
    trainers: int
    suspended: int
    """Of the trainers, those that stand still because the lease could not be renewed."""
    spool_bytes: int
    database_reachable: bool
    """As far as its last round can tell."""


class _Now(Collector):
    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing

    def collect(self) -> Iterable[Metric]:
        now = self._standing()
        slots = GaugeMetricFamily("asym_worker_slots", "What this worker offers.", labels=["kind", "state"])
        for kind, all_of, free in (("gpu", now.gpus, now.gpus_free), ("cpu", now.cpu_slots, now.cpu_slots_free)):
            slots.add_metric([kind, "used"], all_of - free)
            slots.add_metric([kind, "free"], free)
        yield slots
        trainers = GaugeMetricFamily("asym_worker_trainers", "Attempts under way.", labels=["state"])
        trainers.add_metric(["running"], now.trainers - now.suspended)
        trainers.add_metric(["suspended"], now.suspended)
        yield trainers
        yield GaugeMetricFamily(
            "asym_worker_spool_bytes", "What waits on disk until the database takes it.", now.spool_bytes
        )
        yield GaugeMetricFamily(
            "asym_worker_database_reachable", "1: it answered in the last round.", float(now.database_reachable)
        )


def serve(settings: Settings, measured: Measured, standing: Callable[[], Standing]) -> None:
    """Begin, where a port is set. SettingsError when it cannot be listened at."""
    if settings.worker_metrics_port is None:
        return
    host, port = settings.worker_metrics_host, settings.worker_metrics_port
    measured.registry.register(_Now(standing))
    try:
        start_http_server(port, host, measured.registry)
    except OSError as error:
        raise SettingsError(
            f"ASYM_WORKER_METRICS_PORT: cannot listen at {host}:{port}: {error.strerror or error} "
            "(each worker of a machine needs a port of its own)"
        ) from error
