"""One attempt at a job, from its claim to its last word: starts the trainer, watches it, decides what its end means.

The attempt's own thread is the only one that decides. The lease keeper, the recorder and the process tell it that
something changed, and it also looks when the next of its deadlines passes, so a database call that hangs delays none
of its decisions.
"""

import enum
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from store import tracing
from store.artifacts import Artifacts
from store.errors import LeaseLost, UnsafePath
from store.status import JobStatus
from trainer.spec import failpoints
from trainer.spec.events import DISK_FULL, EXIT_DONE, EXIT_STOPPED, STORAGE_FULL
from worker.backlog import BATCH_SECONDS
from worker.held_job import HeldJob
from worker.lease import LeaseKeeper
from worker.orders import OrderFeed
from worker.outage import UNREACHABLE
from worker.preparation import BadJobError, Launch, MissingFileError, TooNewError
from worker.process import TrainerProcess
from worker.recorder import Recorder
from worker.retention import delete_superseded
from worker.spool import Spool

log = logging.getLogger(__name__)

CANCEL_SECONDS = 3.0
"""How long a cancelled trainer may take to end by itself."""
PAUSE_SECONDS = 1800.0
"""How long a trainer may take to finish its step and write a checkpoint when a pause asks for it."""
ANSWER_SECONDS = 0.03
"""How long a part of an answer waits for others before it is written: somebody reads along."""
CHECKPOINT_DAMAGED = "checkpoint_damaged"
"""Code of the trainer's failure when the checkpoint it was to go on from is not what its manifest says."""
_RETRY_SECONDS = 1.0
_STILL_HERE_SECONDS = 1.0
"""How often the guard of a suspended trainer hears from the worker; a lease may be as short as a few of these."""

T = TypeVar("T")


class Stop(enum.IntEnum):
    """Why the trainer was asked to end; a greater one overrides a smaller."""

    NO = 0
    DRAIN = 1
    TIME = 2
    PAUSE = 3
    CANCEL = 4


class _GivenUpError(Exception):
    """The worker leaves now and cannot wait for the database."""


class Attempt:
    """Runs in a thread of its own; `drain`, `give_up` and `look_at_job` may be called from others."""

    def __init__(
        self,
        job: HeldJob,
        prepare: Callable[[], Launch],
        artifacts: Artifacts,
        spool: Spool,
        *,
        silence_seconds: float,
        claimed_at: float,
        orders: OrderFeed | None = None,
    ) -> None:
        """`spool`: this attempt's own. `silence_seconds`: after how long a silent trainer is remarked upon.
        `claimed_at`: time.monotonic() before the claim was sent; the lease is counted from there. `orders`: what a
        sampler is fed by."""
        self.job = job
        self._prepare = prepare
        self._artifacts = artifacts
        self._spool = spool
        self._changed = threading.Condition()
        self._lease = LeaseKeeper(
            job.renew, lease_seconds=job.lease_seconds, claimed_at=claimed_at, on_change=self._notify
        )
        left = job.claim.seconds_left
        self._time_up_at = None if left is None else claimed_at + left
        """When the job's max_runtime is used up, on time.monotonic()."""
        self.too_new = False
        """The job was given back because this version does not understand it."""
        self._draining = False
        self._given_up = False
        self._stop = Stop.NO
        self._kill_at: float | None = None
        self._killed = False
        self._suspended = False
        self._run_until: float | None = None
        self._silence_seconds = silence_seconds
        self._silent_since: float | None = None
        self._orders = orders

    def run(self) -> JobStatus | None:
        """Until the job is settled: the status it then has; None when it is not ours any more. Leaves no process."""
        self._lease.start()
        try:
            return self._run()
        except LeaseLost:
            log.warning("%s: the lease is lost, the attempt is discarded", self.job)
        except _GivenUpError:
            log.warning("%s: given up, the lease will expire", self.job)
        finally:
            self._lease.stop()
        return None

    @property
    def suspended(self) -> bool:
        """The trainer stands still until the lease is renewed."""
        return self._suspended

    @property
    def spool_bytes(self) -> int:
        return self._spool.bytes

    def drain(self) -> None:
        """The worker is leaving: let the trainer write a checkpoint, then give the job back."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """The worker is leaving now: kill the trainer, ask the database once."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def look_at_job(self) -> None:
        """Ask the database at once what is wished of the job."""
        self._lease.renew_soon()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> JobStatus:
        if self._time_is_up(time.monotonic()):
            return self._insist(self.job.out_of_time)
        try:
            with tracing.span("prepare"):
                launch = self._insist(self._prepare)
            failpoints.hit("worker.prepared", of=self.job.claim.job_id)
            process = TrainerProcess(
                launch.command,
                run_dir=launch.run_dir,
                environment=launch.environment,
                on_end=self._notify,
                takes_orders=self._orders is not None,
            )
        except BadJobError as error:
            failure = error.failure
            log.warning("%s: cannot be run: %s", self.job, failure.message)
            return self._insist(lambda: self.job.fail(failure))
        except TooNewError as error:
            # No fault of the job, nor a crash: a worker that has been upgraded takes it.
            log.error("%s: given back, it needs a newer worker: %s", self.job, error)
            self.too_new = True
            return self._insist(lambda: self.job.release(crashed=False, evidence=[]))
        except (MissingFileError, UnsafePath, OSError) as error:
            if isinstance(error, OSError) and error.errno in STORAGE_FULL:
                reason = f"the trainer could not be started: {error}"
                log.error("%s: paused: %s", self.job, reason)
                return self._insist(lambda: self.job.set_aside(DISK_FULL, reason))
            message = f"the trainer could not be started: {error}"
            log.error("%s: %s", self.job, message)
            evidence = [str(error)]
            return self._insist(lambda: self.job.release(crashed=True, message=message, evidence=evidence))
        log.info("%s: trainer started", self.job)
        recorder = Recorder(
            self.job.record,
            spool=self._spool,
            after_checkpoint=lambda: delete_superseded(self.job, self._artifacts),
            on_change=self._notify,
            batch_seconds=BATCH_SECONDS if self._orders is None else ANSWER_SECONDS,
        )
        try:
            # What a sampler does is requests, which come and go.
            with tracing.span("train" if self._orders is None else "serve"):
                recorder.start(process.stdout, process.stderr)
                if self._orders is not None and process.orders is not None:
                    self._orders.start(process.orders)
                self._watch(process, recorder)
        finally:
            if self._orders is not None:
                self._orders.close()
            recorder.abandon()
            process.close()
        if self._lease.lost or recorder.lost:
            raise LeaseLost
        with tracing.span("settle"):
            return self._settle(process.exit_code, recorder)

    def _watch(self, process: TrainerProcess, recorder: Recorder) -> None:
        """Until the trainer has ended and everything it said is recorded, or there is no point in recording it."""
        with self._changed:
            while not (process.ended and recorder.ended):
                now = time.monotonic()
                deadline = None
                if self._lease.lost or self._given_up or (recorder.ended and not recorder.complete):
                    self._killed = True
                    process.kill()
                    recorder.abandon()
                else:
                    self._keep_to_lease(process, now)
                    self._carry_out_wishes(process, now)
                    self._remark_on_silence(recorder, now)
                    deadline = self._next_deadline(recorder)
                self._changed.wait(None if deadline is None else max(0.0, deadline - now))

    def _keep_to_lease(self, process: TrainerProcess, now: float) -> None:
        """The guard suspends the trainer in time and by itself: this process may hang or stand still.

        As long as it does not, it says so, or after another lease the guard kills what a successor may compute beside.
        """
        deadline = self._lease.suspend_at
        if deadline != self._run_until or now >= deadline:
            process.run_until(deadline, patience=self.job.lease_seconds)
            self._run_until = deadline
        late = now >= deadline
        if late and not self._suspended:
            log.warning("%s: the lease could not be renewed, the trainer is suspended", self.job)
        elif self._suspended and not late:
            log.warning("%s: the lease is renewed, the trainer goes on", self.job)
        self._suspended = late

    def _carry_out_wishes(self, process: TrainerProcess, now: float) -> None:
        wanted = Stop.NO
        if self._lease.wish is JobStatus.CANCELLING:
            wanted = Stop.CANCEL
        elif self._lease.wish is JobStatus.PAUSING:
            wanted = Stop.PAUSE
        elif self._time_is_up(now):
            wanted = Stop.TIME
        elif self._draining:
            wanted = Stop.DRAIN
        if wanted > self._stop:
            log.info("%s: asked to stop (%s)", self.job, wanted.name.lower())
            if wanted is Stop.CANCEL:
                process.terminate(group=True)
                self._kill_at = now + CANCEL_SECONDS
            elif self._stop is Stop.NO:  # a second SIGTERM would say "at once"
                process.terminate()
            if wanted in (Stop.PAUSE, Stop.TIME):
                self._kill_at = now + PAUSE_SECONDS
            self._stop = wanted
            if self._orders is not None:
                self._orders.close()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._killed = True
            process.kill()

    def _time_is_up(self, now: float) -> bool:
        return self._time_up_at is not None and now >= self._time_up_at

    def _remark_on_silence(self, recorder: Recorder, now: float) -> None:
        """Once for each silence: a step may take long, and a verifier or a library may never come back."""
        heard_at = recorder.heard_at
        if heard_at != self._silent_since and not self._suspended and now >= heard_at + self._silence_seconds:
            self._silent_since = heard_at
            log.warning("%s: the trainer has said nothing for %.0f s", self.job, now - heard_at)
            recorder.remark(
                "trainer_silent",
                f"the trainer runs and has said nothing for {now - heard_at:.0f} s: a long step, or it hangs",
            )

    def _next_deadline(self, recorder: Recorder) -> float | None:
        deadlines = [] if self._kill_at is None else [self._kill_at]
        if self._time_up_at is not None and self._stop < Stop.TIME:
            deadlines.append(self._time_up_at)
        if self._suspended:
            deadlines.append(time.monotonic() + _STILL_HERE_SECONDS)
        else:
            deadlines.append(self._lease.suspend_at)
            heard_at = recorder.heard_at
            if heard_at != self._silent_since:
                deadlines.append(heard_at + self._silence_seconds)
        return min(deadlines, default=None)

    def _settle(self, exit_code: int | None, recorder: Recorder) -> JobStatus:
        """Write down how the attempt ended, once everything it said is recorded (or never will be)."""
        failpoints.hit("worker.settling", of=self.job.claim.job_id)
        heard, failed = recorder.heard, recorder.heard.failed
        ending = how_it_ended(exit_code)
        if recorder.complete and failed is not None and failed.kind == "user":
            status = self._insist(lambda: self.job.fail(failed))
        elif recorder.complete and heard.done and exit_code == EXIT_DONE:
            status = self._insist(self.job.succeed)
        elif self._stop is Stop.CANCEL or self._lease.wish is JobStatus.CANCELLING:
            status = self._insist(self.job.cancelled)
        elif self._stop is Stop.TIME and self._lease.wish is not JobStatus.PAUSING:
            status = self._insist(self.job.out_of_time)
        elif recorder.complete and failed is not None and failed.code == DISK_FULL:
            ending = f"{failed.code}: {failed.message}"
            reason = failed.message
            status = self._insist(lambda: self.job.set_aside(DISK_FULL, reason))
        elif recorder.complete and self._stop is Stop.PAUSE and heard.stopped and exit_code == EXIT_STOPPED:
            status = self._insist(self.job.paused)
        else:
            if recorder.refused is not None:
                ending = f"the database refused what the trainer said: {recorder.refused}"
            elif failed is not None:
                ending = f"{failed.code}: {failed.message}"
            # What we stopped has not crashed, nor what was too young to have a handler for SIGTERM.
            stopped = self._killed or (self._stop is not Stop.NO and exit_code in (EXIT_STOPPED, -signal.SIGTERM))
            crashed = recorder.refused is not None or not stopped
            resumed = self.job.claim.resume
            if failed is not None and failed.code == CHECKPOINT_DAMAGED and resumed is not None:
                self._insist(lambda: self.job.forget_checkpoint(resumed.path))  # the next goes on from the one before
            evidence = [*heard.last_lines, how_it_ended(exit_code)]
            status = self._insist(lambda: self.job.release(crashed=crashed, message=ending, evidence=evidence))
        failpoints.hit("worker.settled", of=self.job.claim.job_id)
        log.info("%s: %s, now %s", self.job, ending, status)
        return status

    def _insist(self, call: Callable[[], T]) -> T:
        """Call until the database answers. LeaseLost; _GivenUpError once there is no time left to wait for it."""
        while True:
            try:
                return call()
            except UNREACHABLE as error:
                log.warning("%s: database unreachable, trying again: %s", self.job, error)
            with self._changed:
                if self._lease.lost:
                    raise LeaseLost
                if self._changed.wait_for(lambda: self._given_up, timeout=_RETRY_SECONDS):
                    raise _GivenUpError


def how_it_ended(exit_code: int | None) -> str:
    """For people: `exited with status 3`, `killed by SIGKILL`."""
    if exit_code is None:
        return "the trainer's guard was killed, and the trainer with it"
    if exit_code >= 0:
        return f"the trainer exited with status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal
        name = f"signal {-exit_code}"
    return f"the trainer was killed by {name}"
