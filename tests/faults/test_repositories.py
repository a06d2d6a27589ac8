"""The repositories as a state machine: any order of claims, renewals, batches, ends, wishes and expiries, lost answers
and late writers included. Real Postgres, no process, and after every rule what must always hold.

The model beside it is small: who holds which job, and what each job's steps must say. It never predicts which job a
claim takes, only what must be true of whichever it took.
"""

import itertools
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select, text, update

from store import checkpoints, jobs, leases, recording, workers
from store.errors import Conflict, LeaseLost
from store.models import Checkpoint, Job, JobEvent, JobMetric
from store.status import LEASED, TERMINAL, TRANSITIONS, JobStatus
from store.sweeper import sweep
from trainer.spec import events

S = JobStatus
STEPS, MAX_ATTEMPTS, LEASE = 6, 3, 1000.0


@dataclass
class Holder:
    """One attempt as its worker knows it: it may have lost the job without having heard of it."""

    job_id: str
    attempt: int
    step: int
    batch: int = 0
    said: dict[int, list[events.Event]] = field(default_factory=dict)


def value(step):
    """What an uninterrupted run says of a step."""
    return {"policy/loss": step / 8}


class Machine(RuleBasedStateMachine):
    """`world`: set by the test, what its fixtures made."""

    world = None

    def __init__(self):
        super().__init__()
        self.database, self.identity, self.spec = self.world
        with self.database.transaction() as session:
            session.execute(text("TRUNCATE jobs CASCADE"))
            self.worker = workers.register(session, name="w", host="here", pid=1, gpus=0, cpu_slots=9, version="0").id
        self.holders: list[Holder] = []
        self.keys: dict[str, str] = {}
        self.ended: dict[str, tuple[object, ...]] = {}
        self.statuses: dict[str, JobStatus] = {}

    # Means.

    def current(self, holder):
        with self.database.transaction() as session:
            job = session.get(Job, holder.job_id)
            return job.attempt == holder.attempt and job.status in LEASED

    def fenced(self, holder, action):
        """Run it in a transaction; it must be refused just if the attempt no longer holds the job. None when it was."""
        holds = self.current(holder)
        try:
            with self.database.transaction() as session:
                answer = action(session)
        except LeaseLost:
            assert not holds, "the holder was refused"
            return None
        assert holds, "a stale attempt was accepted"
        return answer

    def forget(self, holder):
        self.holders.remove(holder)

    # What clients do.

    @rule(key=st.sampled_from(["a", "b", "c", "d"]))
    def create(self, key):
        with self.database.transaction() as session:
            job, created = jobs.create(session, self.identity, self.spec, idempotency_key=key)
        assert created == (key not in self.keys)
        assert self.keys.setdefault(key, job.id) == job.id

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), wish=st.sampled_from([jobs.request_cancel, jobs.request_pause, jobs.resume]))
    def wish(self, data, wish):
        job_id = data.draw(st.sampled_from(sorted(self.keys.values())))
        try:
            with self.database.transaction() as session:
                wish(session, self.identity, job_id)
        except Conflict:
            return

    # What workers do.

    @rule()
    def claim(self):
        with self.database.transaction() as session:
            queued = session.scalars(select(Job.id).where(Job.status == S.QUEUED)).all()
            claim = leases.claim(session, self.worker, 0, 9, LEASE)
        assert (claim is None) == (not queued)
        if claim is None:
            return
        assert claim.job_id in queued
        step = 0 if claim.resume is None else claim.resume.step
        holder = Holder(claim.job_id, claim.attempt, step)
        holder.said[1] = [
            events.Started(
                time=0, resumed_from=step, steps=STEPS, device="cpu", parameters=1, prompts=1, prompts_dropped=0
            )
        ]
        holder.batch = 1
        self.holders.append(holder)
        self.fenced(holder, self.recording(holder, 1))

    def recording(self, holder, batch):
        return lambda session: recording.record(
            session, holder.job_id, holder.attempt, holder.said[batch], [f"batch {batch}"], batch=batch
        )

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), steps=st.integers(1, 2), checkpoint=st.booleans(), answer_lost=st.booleans())
    def record(self, data, steps, checkpoint, answer_lost):
        holder = data.draw(st.sampled_from(self.holders))
        said: list[events.Event] = []
        for step in range(holder.step + 1, min(holder.step + steps, STEPS) + 1):
            said.append(events.Step(time=0, step=step, metrics=value(step)))
        if not said:
            return
        last = said[-1].step
        if checkpoint:
            path = f"checkpoints/{last}"
            said.append(events.Checkpoint(time=0, step=last, path=path, manifest_sha256="0" * 64, bytes=1, score=None))
        holder.batch += 1
        holder.step = last
        holder.said[holder.batch] = said
        for _ in range(1 + answer_lost):
            self.fenced(holder, self.recording(holder, holder.batch))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def replay(self, data):
        """A batch that was stored long ago comes again."""
        holder = data.draw(st.sampled_from(self.holders))
        self.fenced(holder, self.recording(holder, data.draw(st.integers(1, holder.batch))))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def renew(self, data):
        holder = data.draw(st.sampled_from(self.holders))
        answer = self.fenced(holder, lambda session: leases.renew(session, holder.job_id, holder.attempt, LEASE))
        assert answer is None or answer in LEASED

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), crashed=st.booleans())
    def release(self, data, crashed):
        holder = data.draw(st.sampled_from(self.holders))
        self.fenced(
            holder,
            lambda session: leases.release(session, holder.job_id, holder.attempt, crashed=crashed, evidence=["it"]),
        )
        self.forget(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def disk_full(self, data):
        holder = data.draw(st.sampled_from(self.holders))
        reason = {"code": "disk_full", "message": "full"}
        answer = self.fenced(holder, lambda session: leases.set_aside(session, holder.job_id, holder.attempt, reason))
        assert answer in (None, S.PAUSED, S.CANCELLED)
        self.forget(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), status=st.sampled_from([S.SUCCEEDED, S.FAILED, S.CANCELLED, S.PAUSED]))
    def finish(self, data, status):
        holder = data.draw(st.sampled_from(self.holders))
        if status is S.SUCCEEDED and holder.step < STEPS:
            return
        failure = {"kind": "user", "code": "x", "message": "x", "evidence": ["x"]} if status is S.FAILED else None
        before = self.row(holder.job_id)
        try:
            with self.database.transaction() as session:
                ended = leases.finish(session, holder.job_id, holder.attempt, status, failure)
        except Conflict:
            assert before.status in LEASED  # nobody asked for that
            return
        except LeaseLost:
            assert before.attempt != holder.attempt or before.status not in LEASED
        else:
            assert ended in TRANSITIONS[before.status] | {before.status}
        self.forget(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), damaged=st.booleans())
    def forget_checkpoints(self, data, damaged):
        """As retention does, and as is done after damage."""
        holder = data.draw(st.sampled_from(self.holders))
        of = holder.job_id, holder.attempt
        if damaged:
            with self.database.transaction() as session:
                known = checkpoints.newest_first(session, holder.job_id)
            path = known[0].path if known else "none"
            self.fenced(holder, lambda session: checkpoints.forget(session, *of, path))
        else:
            self.fenced(holder, lambda session: checkpoints.prune(session, *of))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def lease_runs_out(self, data):
        """Its worker has not heard of it and goes on asking."""
        holder = data.draw(st.sampled_from(self.holders))
        with self.database.transaction() as session:
            session.execute(
                update(Job)
                .where(Job.id == holder.job_id, Job.status.in_(LEASED))
                .values(lease_until=text("clock_timestamp() - interval '1 second'"))
            )

    @rule()
    def sweep(self):
        with self.database.transaction() as session:
            # A lease of nothing: the server counts as old enough, and no worker as silent that is not.
            expired = sweep(session, 1e-6).expired
            session.execute(text("UPDATE workers SET stopped_at = NULL"))
        for job_id in expired:
            assert self.row(job_id).status not in LEASED

    # What must always hold.

    def row(self, job_id):
        with self.database.transaction() as session:
            return session.get(Job, job_id)

    @invariant()
    def a_status_changes_as_the_table_says_and_an_end_is_one(self):
        with self.database.transaction() as session:
            rows = session.scalars(select(Job)).all()
            states = session.execute(
                select(JobEvent.job_id, JobEvent.data).where(JobEvent.type == "state").order_by(JobEvent.id)
            ).all()
        journal: dict[str, list[JobStatus]] = {}
        for job_id, data in states:
            journal.setdefault(job_id, []).append(JobStatus(data["status"]))
        for job in rows:
            walk = journal[job.id]
            assert walk[0] is S.QUEUED
            assert walk[-1] is job.status
            assert all(after in TRANSITIONS[before] for before, after in itertools.pairwise(walk))
            assert (job.lease_until is not None) == (job.status in LEASED)
            if job.status in TERMINAL:
                end = (job.status, job.attempt, job.crashes, job.step, job.finished_at, json.dumps(job.failure))
                assert self.ended.setdefault(job.id, end) == end
            else:
                assert job.id not in self.ended
            assert job.crashes <= min(job.attempt, MAX_ATTEMPTS)
            assert (job.crashes == MAX_ATTEMPTS) <= (job.status in TERMINAL)
            assert (job.pause_reason is not None) <= (job.status is S.PAUSED)

    @invariant()
    def steps_have_no_gap_no_double_and_the_uninterrupted_values(self):
        with self.database.transaction() as session:
            rows = session.execute(
                select(JobMetric.job_id, JobMetric.step, JobMetric.attempt, JobMetric.values).order_by(
                    JobMetric.job_id, JobMetric.step
                )
            ).all()
            reached = dict(session.execute(select(Job.id, Job.step)).all())
            newest = session.execute(
                select(Checkpoint.job_id, Checkpoint.step).where(
                    Checkpoint.deleted_at.is_(None), Checkpoint.superseded_at.is_(None)
                )
            ).all()
        of: dict[str, list[int]] = {job_id: [] for job_id in reached}
        attempts: dict[str, list[int]] = {job_id: [] for job_id in reached}
        for row in rows:
            of[row.job_id].append(row.step)
            attempts[row.job_id].append(row.attempt)
            assert row.values == value(row.step)
        for job_id, steps in of.items():
            assert steps == list(range(1, reached[job_id] + 1))
            assert attempts[job_id] == sorted(attempts[job_id])
        # Whatever may be resumed from has all its steps stored before it.
        assert all(step <= reached[job_id] for job_id, step in newest)

    @invariant()
    def the_history_of_a_job_never_goes_back_to_an_earlier_attempt(self):
        with self.database.transaction() as session:
            for table in ("job_events", "job_logs"):
                rows = session.execute(text(f"SELECT job_id, attempt FROM {table} ORDER BY id")).all()  # noqa: S608
                seen: dict[str, int] = {}
                for job_id, attempt in rows:
                    assert attempt >= seen.get(job_id, 0)
                    seen[job_id] = attempt
            twice = session.execute(
                text("SELECT job_id, attempt, line FROM job_logs GROUP BY 1, 2, 3 HAVING count(*) > 1")
            ).all()
            assert twice == [], "a replayed batch was written again"


@pytest.mark.timeout(600)
def test_the_repositories_keep_every_promise(database, identity, make_dataset, make_spec):
    spec = make_spec(
        make_dataset(identity).id,
        train={"steps": STEPS},
        resources={"max_attempts": MAX_ATTEMPTS},
        checkpoint={"every": 2, "keep_last": 2},
    )
    Machine.world = (database, identity, spec)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
