"""What must hold at every moment, whatever has been killed. A broken promise is a `Violation`, with its job in it.

1. At most one attempt computes: no witness of an attempt is later than one of its successor.
2. A stale attempt writes nothing: in the order of commits, the attempts of a job's history never fall.
3. An accepted job ends or can be claimed: no lease is overdue by more than a sweep, and a job is never held twice.
4. An ended job never changes.
5. One row for each (job, step), no gaps, and each holds what an uninterrupted run would have said.
6. The newest checkpoint that may be resumed from loads, its hashes match, and it is the uninterrupted run's.
7. Attempts lost never exceed the maximum, and a failed job brings evidence.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from store.status import LEASED, TERMINAL, JobStatus
from tests.faults.suite.miniature import metrics_of, state_after, weights_of
from trainer.checkpoint_folder import verify
from trainer.errors import CheckpointError

_JOBS = text("""
    SELECT id, name, status, attempt, crashes, max_attempts, step, steps, spec->>'seed' AS seed, failure, finished_at,
        pause_reason, extract(epoch FROM clock_timestamp() - lease_until) AS overdue,
        extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) AS server_age
    FROM jobs ORDER BY id
""")
_METRICS = text("SELECT step, attempt, values FROM job_metrics WHERE job_id = :id ORDER BY step")
_HISTORY = text("SELECT id, attempt, type, data FROM job_events WHERE job_id = :id ORDER BY id")
_CHECKPOINT = text("""
    SELECT step, path, manifest_sha256 FROM checkpoints
    WHERE job_id = :id AND deleted_at IS NULL AND superseded_at IS NULL ORDER BY step DESC LIMIT 1
""")


@dataclass
class Known:
    """What is remembered from one look to the next."""

    ended: dict[str, tuple[object, ...]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    """Folders of checkpoints that a fault has damaged: they must be passed over, not be whole."""
    looked_at: dict[str, tuple[object, ...]] = field(default_factory=dict)
    longest_overdue: float = 0.0
    checks: int = 0


class Violation(AssertionError):  # noqa: N818 - of a promise
    pass


def check(database, artifacts: Path, known: Known, *, lease_seconds: float, overdue_seconds: float) -> list:
    """Look at every job; its rows as they are. Violation for the first promise that is broken."""
    known.checks += 1
    with database.transaction(snapshot=True) as session:
        rows = session.execute(_JOBS).all()
        for job in rows:
            status = JobStatus(job.status)
            if job.crashes > min(job.attempt, job.max_attempts):
                raise Violation(f"{job.id}: {job.crashes} of {job.max_attempts} attempts lost in {job.attempt}")
            if status is JobStatus.FAILED and not job.failure["evidence"]:
                raise Violation(f"{job.id} failed without evidence: {job.failure}")
            if status in LEASED and job.server_age > 2 * lease_seconds:
                known.longest_overdue = max(known.longest_overdue, float(job.overdue))
                if job.overdue > overdue_seconds:
                    raise Violation(f"{job.id} is {status} and its lease overdue by {job.overdue:.1f} s")
            _check_ended(known, job, status)
            seen = (job.status, job.attempt, job.step, job.finished_at)
            if known.looked_at.get(job.id) != seen:
                _check_history(session, job)
                _check_witness(artifacts, job)
                known.looked_at[job.id] = seen
    for job in rows:
        if not job.name.startswith("real") and JobStatus(job.status) not in (JobStatus.FAILED, JobStatus.CANCELLED):
            _check_checkpoint(database, artifacts, known, job)
    return rows


def _check_ended(known: Known, job, status: JobStatus) -> None:
    if status not in TERMINAL:
        if job.id in known.ended:
            raise Violation(f"{job.id} was {known.ended[job.id]} and is {status}")
        return
    end = (status, job.attempt, job.crashes, job.step, job.finished_at, json.dumps(job.failure, sort_keys=True))
    if known.ended.setdefault(job.id, end) != end:
        raise Violation(f"{job.id} ended as {known.ended[job.id]} and is now {end}")
    if status is JobStatus.SUCCEEDED and job.step != job.steps:
        raise Violation(f"{job.id} succeeded after {job.step} of {job.steps} steps")


def _check_history(session, job) -> None:
    metrics = session.execute(_METRICS, {"id": job.id}).all()
    if [row.step for row in metrics] != list(range(1, job.step + 1)):
        raise Violation(f"{job.id}: steps {[row.step for row in metrics]} after step {job.step}")
    attempts = [row.attempt for row in metrics]
    if attempts != sorted(attempts):
        raise Violation(f"{job.id}: an old row among newer ones, attempts {attempts}")
    if not job.name.startswith("real"):
        for row in metrics:
            said = {key: value for key, value in row.values.items() if not key.startswith("perf/")}
            if said != metrics_of(state_after(int(job.seed), row.step)):
                raise Violation(f"{job.id}: step {row.step} of attempt {row.attempt} is not the uninterrupted run's")
    running, highest = 0, 0
    for event in session.execute(_HISTORY, {"id": job.id}):
        if event.attempt < highest:
            raise Violation(f"{job.id}: event {event.id} of attempt {event.attempt} after one of attempt {highest}")
        highest = max(highest, event.attempt)
        if event.type == "state" and event.data["status"] == "running":
            running += 1
            if event.attempt != running:
                raise Violation(f"{job.id}: attempt {event.attempt} began as number {running}")
    if running != job.attempt:
        raise Violation(f"{job.id}: {running} attempts began, the row says {job.attempt}")


def _check_witness(artifacts: Path, job) -> None:
    path = artifacts / "jobs" / job.id / "witness"
    if not path.exists():
        return
    last: dict[int, float] = {}
    first: dict[int, float] = {}
    for line in path.read_text().splitlines():
        attempt, _, moment = line.partition(" ")
        first.setdefault(int(attempt), float(moment))
        last[int(attempt)] = max(last.get(int(attempt), 0.0), float(moment))
    for attempt in sorted(last)[:-1]:
        successor = min(other for other in last if other > attempt)
        if last[attempt] > first[successor]:
            late = last[attempt] - first[successor]
            raise Violation(f"{job.id}: attempt {attempt} computed for {late:.2f} s beside attempt {successor}")


def _check_checkpoint(database, artifacts: Path, known: Known, job) -> None:
    def newest():
        with database.transaction() as session:
            return session.execute(_CHECKPOINT, {"id": job.id}).one_or_none()

    found = newest()
    if found is None or found.path in known.damaged:
        return
    folder = artifacts / found.path
    try:
        step = verify(folder)
        manifest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        state = json.loads((folder / "state.json").read_text())["state"]
        weights = (folder / "model" / "weights").read_bytes()
    except (CheckpointError, OSError, ValueError) as error:
        # A newer one may have been stored since, and this one been deleted.
        if newest() == found and found.path not in known.damaged:
            raise Violation(f"{job.id}: the newest checkpoint {found.path} does not load: {error}") from error
        return
    if (step, manifest) != (found.step, found.manifest_sha256):
        raise Violation(f"{job.id}: {found.path} is not what its row says")
    expected = state_after(int(job.seed), step)
    if (state, weights) != (expected, weights_of(expected)):
        raise Violation(f"{job.id}: the checkpoint of step {step} is not the uninterrupted run's")
