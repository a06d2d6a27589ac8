"""A claimed job as its attempt sees it: every call is one transaction behind the attempt's fence (store.leases)."""

import time
from typing import Literal

from store import checkpoints, leases
from store.database import Database
from store.leases import Claim, Failure, PauseReason
from store.policy import DEFAULT, Policy
from store.status import JobStatus
from trainer.spec.events import Event, Failed
from worker.measured import Measured


class HeldJob:
    """Each method raises LeaseLost once the attempt no longer holds the job, or a database error."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        lease_seconds: float,
        policy: Policy = DEFAULT,
        measured: Measured | None = None,
    ) -> None:
        self._database = database
        self.claim = claim
        self.lease_seconds = lease_seconds
        self._policy = policy
        self._measured = measured or Measured()

    def __str__(self) -> str:
        return f"{self.claim.job_id} attempt {self.claim.attempt}"

    def renew(self) -> JobStatus:
        """Keep the job; the answer is what is wished of it: running, pausing or cancelling."""
        with self._measured.renewal(), self._database.transaction() as session:
            return leases.renew(session, self.claim.job_id, self.claim.attempt, self.lease_seconds, self._policy)

    def record(self, events: list[Event], log_lines: list[str], batch: int) -> None:
        """Store what the trainer said. Batches count from 1; a batch tried again keeps its number and content."""
        began = time.perf_counter()
        with self._database.transaction() as session:
            leases.record(session, self.claim.job_id, self.claim.attempt, events, log_lines, batch=batch)
        self._measured.stored(events, time.perf_counter() - began)

    def succeed(self) -> JobStatus:
        return self._finish(JobStatus.SUCCEEDED)

    def cancelled(self) -> JobStatus:
        return self._finish(JobStatus.CANCELLED)

    def paused(self) -> JobStatus:
        """As asked for; cancelled when that was asked for since."""
        return self._finish(JobStatus.PAUSED)

    def fail(self, failed: Failed) -> JobStatus:
        """For good: another attempt would end the same way."""
        return self._finish(
            JobStatus.FAILED,
            {"kind": "user", "code": failed.code, "message": failed.message, "evidence": failed.evidence},
        )

    def out_of_time(self) -> JobStatus:
        """It has run for its max_runtime: failed for good. What it wrote stays."""
        job_id, attempt = self.claim.job_id, self.claim.attempt
        with self._database.transaction() as session:
            stored = checkpoints.newest_first(session, job_id)
            limit = self.claim.spec.get("resources", {}).get("max_runtime")
            message = f"resources.max_runtime of {limit:g} s is used up"
            if stored:
                message += f"; a retry goes on after step {stored[0].step}, with as much time again"
            failure: Failure = {"kind": "user", "code": "max_runtime", "message": message, "evidence": []}
            return leases.finish(session, job_id, attempt, JobStatus.FAILED, failure, self._policy)

    def release(self, *, crashed: bool, evidence: list[str], message: str = "the attempt crashed") -> JobStatus:
        """Back into the queue, unless it crashed too often or was to be cancelled or paused."""
        with self._database.transaction() as session:
            return leases.release(
                session,
                self.claim.job_id,
                self.claim.attempt,
                crashed=crashed,
                evidence=evidence,
                message=message,
                policy=self._policy,
            )

    def set_aside(self, code: str, message: str) -> JobStatus:
        """Pause it: it cannot go on until somebody has done something about `code`. Uses up no attempt."""
        with self._database.transaction() as session:
            reason: PauseReason = {"code": code, "message": message}
            return leases.set_aside(session, self.claim.job_id, self.claim.attempt, reason)

    def forget_checkpoint(self, path: str) -> None:
        """Nothing is to start from this checkpoint again."""
        with self._database.transaction() as session:
            checkpoints.forget(session, self.claim.job_id, self.claim.attempt, path)

    def prune_checkpoints(self) -> checkpoints.Pruned:
        """Mark those deleted that the spec does not keep."""
        with self._database.transaction() as session:
            return checkpoints.prune(session, self.claim.job_id, self.claim.attempt)

    def _finish(
        self,
        status: Literal[JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED],
        failure: Failure | None = None,
    ) -> JobStatus:
        with self._database.transaction() as session:
            return leases.finish(session, self.claim.job_id, self.claim.attempt, status, failure, self._policy)
