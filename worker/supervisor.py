"""A worker's heart: is registered, says that it lives, claims jobs while there is room, sweeps, and leaves in order.

One thread does all of that with the database; each job runs in a thread of its own (worker/attempt.py). The doorbell
(worker/listener.py) only makes the next look come sooner.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from store import leases, logs, schema, sweeper, tracing, workers
from store.database import Database
from store.errors import NotFound
from store.leases import Claim
from store.policy import DEFAULT, Policy
from store.status import JobStatus
from store.workers import Device
from trainer.spec import failpoints
from worker.attempt import Attempt
from worker.held_job import HeldJob, HeldSampler
from worker.measured import LOST, Measured
from worker.orders import OrderFeed
from worker.preparation import Preparation
from worker.slots import Share, Slots
from worker.telemetry import Standing

log = logging.getLogger(__name__)

_LEAVE_SECONDS = 3.0
"""How long giving the jobs back may then take."""


@dataclass(frozen=True)
class Registration:
    """How this worker shows in the list of workers."""

    name: str
    host: str
    pid: int
    version: str
    devices: Sequence[Device] = ()
    """The GPUs it offers, in their order."""
    labels: Sequence[str] = ()


class Supervisor:
    def __init__(
        self,
        database: Database,
        preparation: Preparation,
        registration: Registration,
        *,
        gpus: Sequence[str],
        cpu_slots: int,
        lease_seconds: float,
        sweep_seconds: float,
        drain_seconds: float,
        ring: Callable[[], object],
        policy: Policy = DEFAULT,
        measured: Measured | None = None,
    ) -> None:
        """`gpus`: entries for CUDA_VISIBLE_DEVICES. `drain_seconds`: how long trainers may take to write a checkpoint
        when the worker leaves. `ring`: tells the other workers that there is work."""
        self._database = database
        self._preparation = preparation
        self._registration = registration
        self._gpus, self._cpu_slots = len(gpus), cpu_slots
        self._slots = Slots(gpus, cpu_slots, [device["memory_gb"] for device in registration.devices])
        self._policy = policy
        self._lease_seconds = lease_seconds
        self._sweep_seconds = sweep_seconds
        self._drain_seconds = drain_seconds
        self._ring = ring
        self._measured = measured or Measured()
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._outdated = threading.Event()
        self._running: dict[Attempt, threading.Thread] = {}
        self._lock = threading.Lock()
        self._worker_id: str | None = None
        self._reachable = True
        self._unfit: str | None = None
        """Why this program cannot work with the database, as last said."""
        self._heard_at = time.monotonic()
        self._sweep_after = 0.0
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def standing(self) -> Standing:
        """How it stands, for whoever looks after it."""
        attempts = self._attempts()
        return Standing(
            gpus=self._gpus,
            gpus_free=len(self._slots.free_gpus),
            cpu_slots=self._cpu_slots,
            cpu_slots_free=self._slots.free_cpu_slots,
            trainers=len(attempts),
            suspended=sum(attempt.suspended for attempt in attempts),
            spool_bytes=sum(attempt.spool_bytes for attempt in attempts),
            database_reachable=self._reachable,
        )

    def look(self) -> None:
        """There may be work, or a wish for a running job."""
        for attempt in self._attempts():
            attempt.look_at_job()
        self._wake.set()

    def drain(self, hurry: threading.Event) -> None:
        """Leave: claim nothing more, let every trainer write a checkpoint, give the jobs back.

        Blocks until that is done. After `drain_seconds`, or once `hurry` is set, trainers are killed.
        """
        self._draining.set()
        self._wake.set()
        leaving = self._tell("that it leaves", workers.drain)
        deadline = time.monotonic() + self._drain_seconds
        while (attempts := self._attempts()) or self._thread.is_alive():
            if hurry.is_set() or time.monotonic() > deadline:
                break
            for attempt in attempts:
                attempt.drain()
            hurry.wait(0.1)
        for attempt in self._attempts():
            log.warning("%s: no time left, the trainer is killed", attempt.job)
            attempt.give_up()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for thread in [self._thread, *self._threads()]:
            thread.join(max(0.0, deadline - time.monotonic()))
        # A database that does not answer must not keep the worker here.
        deadline = time.monotonic() + _LEAVE_SECONDS
        for telling in (leaving, self._tell("goodbye", workers.stop)):
            if telling is not None:
                telling.join(max(0.0, deadline - time.monotonic()))

    def _attempts(self) -> list[Attempt]:
        with self._lock:
            return list(self._running)

    def _threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._running.values())

    def _run(self) -> None:
        next_round = 0.0
        while not self._draining.is_set():
            self._wake.clear()
            try:
                if time.monotonic() >= next_round:
                    next_round = time.monotonic() + self._sweep_seconds
                    self._say_alive()
                    self._note_contact()
                    self._sweep()
                while not self._draining.is_set() and self._claim():
                    pass
                if not self._reachable:
                    log.warning("database reachable again")
                self._reachable = True
            except schema.Unfit as error:
                # Not the end: during an upgrade it is a matter of order, and whoever migrates need not start us again.
                if self._unfit != str(error):
                    log.error("taking no jobs: %s", error)
                self._unfit = str(error)
            except SQLAlchemyError as error:
                # Whatever it is: a worker that runs jobs must not end because it cannot claim another.
                if self._reachable:
                    log.warning("database unreachable: %s", error)
                self._reachable = False
                self._sweep_after = time.monotonic() + self._lease_seconds
            self._wake.wait(max(0.0, next_round - time.monotonic()))

    def _say_alive(self) -> None:
        try:
            if self._worker_id is not None:
                with self._database.transaction() as session:
                    workers.heartbeat(session, self._worker_id)
                return
        except NotFound:
            log.warning("this worker's row is gone, registering again")
        with self._database.transaction() as session:
            schema.check(session.connection())
            me = self._registration
            self._worker_id = workers.register(
                session,
                name=me.name,
                host=me.host,
                pid=me.pid,
                gpus=self._gpus,
                cpu_slots=self._cpu_slots,
                version=me.version,
                devices=me.devices,
                labels=me.labels,
            ).id
        log.info("registered as %s (%s): %d GPUs, %d CPU slots", me.name, self._worker_id, self._gpus, self._cpu_slots)

    def _note_contact(self) -> None:
        """After an outage the others, who could not renew either, get one lease before anyone takes jobs away."""
        now = time.monotonic()
        # A database that hung, or a worker that was itself suspended, leaves no error behind, only a gap.
        if now - self._heard_at > self._sweep_seconds + self._lease_seconds / 3:
            self._sweep_after = now + self._lease_seconds
        self._heard_at = now

    def _sweep(self) -> None:
        asked_at = time.monotonic()
        if asked_at < self._sweep_after:
            return
        with self._database.transaction() as session:
            expired = sweeper.sweep(session, self._lease_seconds, self._policy, asked_at=asked_at).expired
        if expired:
            log.warning("leases expired: %s", ", ".join(expired))
            self._ring()

    def _claim(self) -> bool:
        """Claim one job and start it. False when nothing fits."""
        free_gpus, free_cpu_slots = self._slots.free_gpus, self._slots.free_cpu_slots
        if self._worker_id is None or self._outdated.is_set() or not (free_gpus or free_cpu_slots):
            return False
        claimed_at, asked_at = time.monotonic(), time.time()
        with self._database.statements() as session:
            claim = leases.claim(session, self._worker_id, free_gpus, free_cpu_slots, self._lease_seconds, self._policy)
        if claim is None:
            return False
        failpoints.hit("worker.claimed", of=claim.job_id)
        self._measured.claims.inc()
        with logs.bound(job=claim.job_id, attempt=claim.attempt):
            tracing.note(claim.job_id, "claim", self._traits(claim), asked_at)
            self._start_attempt(claim, claimed_at)
        return True

    def _traits(self, claim: Claim) -> tracing.Attributes:
        return {
            "asym.job.id": claim.job_id,
            "asym.attempt": claim.attempt,
            "asym.gpus": claim.gpus,
            "asym.worker": self._registration.name,
        }

    def _start_attempt(self, claim: Claim, claimed_at: float) -> None:
        share = self._slots.take(claim.gpus, claim.gpu_memory)
        samples = claim.kind == "serve"
        settings = self._preparation.settings
        attempt = Attempt(
            (HeldSampler if samples else HeldJob)(
                self._database, claim, self._lease_seconds, self._policy, self._measured
            ),
            lambda: self._preparation.prepare(claim, share.gpus),
            self._preparation.artifacts,
            self._preparation.spool(),
            # A sampler says nothing while nobody asks.
            silence_seconds=math.inf if samples else settings.silence_seconds,
            claimed_at=claimed_at,
            orders=OrderFeed(self._database, settings, claim) if samples else None,
        )
        thread = logs.thread(self._run_attempt, attempt, share, name=claim.job_id)
        with self._lock:
            self._running[attempt] = thread
        log.info("%s: claimed, %s", attempt.job, f"GPUs {','.join(share.gpus)}" if share.gpus else "on the CPU")
        thread.start()

    def _run_attempt(self, attempt: Attempt, share: Share) -> None:
        try:
            claim = attempt.job.claim
            with tracing.span("attempt", self._traits(claim), job_id=claim.job_id) as span:
                status = attempt.run()
                if span is not None:
                    span.set_attribute("asym.status", status or LOST)
            self._measured.attempts.labels(LOST if status is None else status.value).inc()
            self._slots.give_back(share)
            if attempt.too_new and not self._outdated.is_set():
                # It would claim the same job again at once. What it runs goes on.
                log.error("taking no more jobs: this worker is older than the database and its jobs; update it")
                self._outdated.set()
                self._tell("that it takes no more jobs", workers.drain)
            self._wake.set()
            if status is JobStatus.QUEUED:
                self._ring()
        finally:
            with self._lock:
                del self._running[attempt]

    def _tell(self, what: str, write: Callable[[Session, str], None]) -> threading.Thread | None:
        """Write something about this worker into the database, without waiting for it."""
        worker_id = self._worker_id
        if worker_id is None:
            return None

        def tell() -> None:
            try:
                with self._database.transaction() as session:
                    write(session, worker_id)
            except SQLAlchemyError as error:
                log.warning("could not say %s: %s", what, error)

        thread = threading.Thread(target=tell, name=f"say {what}", daemon=True)
        thread.start()
        return thread
