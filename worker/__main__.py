"""Run a worker:  python -m worker [--name NAME]

Claims jobs and trains them until it gets SIGTERM or Ctrl-C: then it lets the trainers write a checkpoint, gives the
jobs back and leaves. A second signal, a second later, means at once. Needs ASYM_DATABASE_URL and ASYM_BROKER_URL.
"""

import argparse
import importlib.metadata
import logging
import math
import os
import queue
import signal
import socket
import sys
import threading
import time

from store import logs, tracing
from store.artifacts import Artifacts
from store.database import Database
from store.doorbell import ring
from store.errors import SettingsError
from store.settings import Settings
from trainer.spec.job import ResourcesSpec
from worker import telemetry
from worker.listener import Listener
from worker.measured import Measured
from worker.preparation import Preparation
from worker.slots import describe_gpus, offered_gpus, visible_gpus
from worker.supervisor import Registration, Supervisor
from worker.tidying import Tidying

log = logging.getLogger("worker")

_HANG_UP_SECONDS = 2.0
_ONE_REQUEST_SECONDS = 1.0
"""Whoever signals a whole tree of processes asks us twice, directly and through our parent: that is no impatience."""


def main() -> int:
    arguments = _arguments()
    # Celery is chatty about what is normal here; what it warns of stays.
    logging.getLogger("celery").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment()
        logs.set_up(settings.log_format)
        database_url, broker_url = settings.require_database_url(), settings.require_broker_url()
        gpus = offered_gpus(visible_gpus(os.environ), arguments.gpus)
        labels = arguments.label or _labels(os.environ.get("ASYM_WORKER_LABELS", ""))
    except (SettingsError, ValueError) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2

    if settings.traced:
        tracing.start("asym-worker")
    # One job uses up to three connections at once (its lease, its events, a sampler's requests); the supervisor and
    # tidying one more each.
    pool_size = 3 * (len(gpus) + arguments.cpu_slots) + 2
    database = Database(database_url, pool_size, idle_seconds=settings.lease_seconds / 2)
    artifacts = Artifacts(settings.artifacts)
    host = socket.gethostname()
    measured = Measured()
    supervisor = Supervisor(
        database,
        Preparation(settings, artifacts, database, os.environ),
        Registration(
            name=arguments.name or f"{host}-{os.getpid()}",
            host=host,
            pid=os.getpid(),
            version=importlib.metadata.version("asym-core"),
            devices=describe_gpus(gpus),
            labels=labels,
        ),
        gpus=gpus,
        cpu_slots=arguments.cpu_slots,
        lease_seconds=settings.lease_seconds,
        sweep_seconds=settings.sweep_seconds,
        drain_seconds=settings.drain_seconds if arguments.drain_seconds is None else arguments.drain_seconds,
        ring=lambda: ring(broker_url),
        policy=settings.policy,
        measured=measured,
    )
    try:
        telemetry.serve(settings, measured, supervisor.standing)
    except SettingsError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    listener = Listener(broker_url, supervisor.look)
    tidying = Tidying(database, artifacts, settings.tidy_seconds)

    # put() is the one thing here that is safe inside a signal handler: setting an Event there can deadlock.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda received, _frame: signals.put(received))
    supervisor.start()
    listener.start()
    tidying.start()
    signals.get()
    asked_at = time.monotonic()
    log.info("leaving: trainers may write a checkpoint first (again to leave at once)")
    hurry = threading.Event()

    def wait_for_another() -> None:
        while signals.get() and time.monotonic() - asked_at < _ONE_REQUEST_SECONDS:
            pass
        hurry.set()

    threading.Thread(target=wait_for_another, daemon=True).start()
    tidying.stop()
    supervisor.drain(hurry)
    listener.stop(_HANG_UP_SECONDS)
    log.info("left")
    tracing.stop()
    # Threads that hang in a call to a server that does not answer must not keep the process.
    logging.shutdown()
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m worker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", help="how it shows in the list of workers (default: host and process id)")
    parser.add_argument(
        "--gpus",
        type=_count,
        default=os.environ.get("ASYM_WORKER_GPUS") or None,
        help="offer only so many of the visible GPUs (default: ASYM_WORKER_GPUS, else all)",
    )
    parser.add_argument(
        "--cpu-slots", type=_count, default=1, help="how many jobs may run on the CPU at once (default: 1)"
    )
    parser.add_argument(
        "--label",
        action="append",
        type=_label,
        help="what jobs may ask for in resources.labels, e.g. h100; may be repeated (default: ASYM_WORKER_LABELS, "
        "comma separated)",
    )
    parser.add_argument(
        "--drain-seconds",
        type=_seconds,
        help="how long trainers may take to finish their step and write a checkpoint when the worker is told to leave; "
        "then they are killed (default: ASYM_DRAIN_SECONDS, else half an hour)",
    )
    return parser.parse_args()


def _labels(text: str) -> list[str]:
    """Of a comma-separated list. ValueError for one that no job could ask for."""
    return [_label(part.strip()) for part in text.split(",") if part.strip()]


def _label(text: str) -> str:
    return ResourcesSpec(labels=[text]).labels[0]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of slots")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
