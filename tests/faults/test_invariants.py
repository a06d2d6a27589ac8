"""The suite's own eyes: each promise, broken by hand, is noticed."""

import json

import pytest
from sqlalchemy import text

from store import jobs, leases, workers
from store.status import JobStatus
from tests.faults.suite.invariants import Known, Violation, check
from tests.faults.suite.miniature import metrics_of, state_after, weights_of
from trainer.checkpoint_folder import one_file, write
from trainer.spec import events

SEED = 5


@pytest.fixture
def job_id(database, identity, make_dataset, make_spec, artifacts):
    """A job with three steps and a checkpoint done, in its first attempt."""
    spec = make_spec(make_dataset(identity).id, name="mini", seed=SEED, train={"steps": 6})
    with database.transaction() as session:
        job = jobs.create(session, identity, spec)[0].id
        worker = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=1, version="0").id
        assert leases.claim(session, worker, 0, 1, 60).job_id == job
    state = state_after(SEED, 3)

    def fill(folder):
        (folder / "model").mkdir()
        with one_file(folder / "model" / "weights") as path:
            path.write_bytes(weights_of(state))
        (folder / "state.json").write_text(json.dumps({"state": state}))

    written = write(artifacts.attempt_dir(job, 1) / "checkpoints", 3, fill)
    said = [events.Step(time=0, step=step, metrics=metrics_of(state_after(SEED, step))) for step in (1, 2, 3)]
    said.append(
        events.Checkpoint(
            time=0, step=3, path="checkpoints/3", manifest_sha256=written.manifest_sha256, bytes=1, score=None
        )
    )
    with database.transaction() as session:
        leases.record(session, job, 1, said, [], batch=1)
    return job


@pytest.fixture
def look(database, artifacts):
    def look(known=None):
        # A server younger than two leases has kept everyone from renewing; these leases are of no length.
        return check(database, artifacts.root, known or Known(), lease_seconds=0, overdue_seconds=5)

    return look


def test_what_is_well_is_well(job_id, look):
    (row,) = look()
    assert (row.id, row.status, row.step) == (job_id, "running", 3)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM job_metrics WHERE step = 2", "steps"),
        ("UPDATE job_metrics SET attempt = 2 WHERE step = 1", "an old row among newer"),
        ("""UPDATE job_metrics SET values = values || '{"policy/loss": 1}' WHERE step = 2""", "not the uninterrupted"),
        ("UPDATE jobs SET crashes = 2", "attempts lost"),
        ("UPDATE jobs SET attempt = 2", "attempts began"),
        (
            "INSERT INTO job_events (job_id, attempt, level, type, message, data) SELECT id, 0, 'info', 'message', '',"
            " '{}' FROM jobs",
            "after one of attempt 1",
        ),
        ("UPDATE checkpoints SET manifest_sha256 = 'x'", "not what its row says"),
        (
            "UPDATE jobs SET status = 'failed', lease_until = NULL, finished_at = now(),"
            """ failure = '{"kind": "user", "code": "x", "message": "x", "evidence": []}'""",
            "without evidence",
        ),
        ("UPDATE jobs SET status = 'succeeded', lease_until = NULL, finished_at = now()", "after 3 of 6"),
    ],
)
def test_a_broken_row_is_noticed(job_id, look, database, damage, said):
    with database.transaction() as session:
        session.execute(text(damage))
    with pytest.raises(Violation, match=said):
        look()


def test_an_end_that_changes_is_noticed(job_id, look, database):
    known = Known()
    with database.transaction() as session:
        session.execute(text("UPDATE jobs SET status = 'cancelled', lease_until = NULL, finished_at = now()"))
    look(known)
    with database.transaction() as session:
        session.execute(text("UPDATE jobs SET status = 'queued', finished_at = NULL"))
    with pytest.raises(Violation, match=f"was .*{JobStatus.CANCELLED}"):
        look(known)


def test_an_overdue_lease_is_noticed(job_id, look, database):
    with database.transaction() as session:
        session.execute(text("UPDATE jobs SET lease_until = clock_timestamp() - interval '9 seconds'"))
    with pytest.raises(Violation, match="overdue by 9"):
        look()


@pytest.mark.parametrize(("witness", "broken"), [("1 5.0\n2 6.0\n2 7.0\n", False), ("1 5.0\n2 6.0\n1 6.5\n", True)])
def test_two_attempts_that_compute_at_once_are_noticed(job_id, look, artifacts, witness, broken):
    (artifacts.root / "jobs" / job_id / "witness").write_text(witness)
    if broken:
        with pytest.raises(Violation, match=r"computed for 0\.50 s beside"):
            look()
    else:
        look()


def test_a_checkpoint_that_rots_is_noticed_unless_a_fault_did_it(job_id, look, artifacts):
    folder = artifacts.attempt_dir(job_id, 1) / "checkpoints" / "3"
    content = (folder / "model" / "weights").read_bytes()
    (folder / "model" / "weights").write_bytes(content[:-1] + b"?")
    with pytest.raises(Violation, match="does not load"):
        look()
    look(Known(damaged={str(folder.relative_to(artifacts.root))}))
