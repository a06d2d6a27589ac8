"""What ended and deleted jobs leave on the disk and in the tables goes, and nothing else does."""

import threading

import pytest
from sqlalchemy import text

from store import checkpoints, removal
from store.status import JobStatus
from worker.tidying import tidy


@pytest.fixture
def tidied(database, artifacts):
    """tidied(): one round of it."""
    return lambda: tidy(database, artifacts, threading.Event())


@pytest.fixture
def ended(submit, start_worker, wait_for_status):
    """A job that succeeded after 6 steps with checkpoints 2, 4 and 6, of which it keeps the last two."""
    job_id = submit(steps=6)
    worker = start_worker()
    wait_for_status(job_id, JobStatus.SUCCEEDED)
    at_once = threading.Event()
    worker.drain(at_once)
    return job_id


@pytest.fixture
def on_disk(artifacts):
    def listed(job_id):
        return sorted(artifacts.checkpoints_on_disk(job_id, artifacts.attempts_on_disk(job_id)))

    return listed


def test_an_ended_job_keeps_what_its_spec_keeps_and_loses_what_nobody_knows(
    database, artifacts, ended, on_disk, tidied
):
    half = artifacts.attempt_dir(ended, 1) / "checkpoints" / ".7.partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"0" * 10)
    tidied()
    with database.transaction() as session:
        kept = [found.path for found in checkpoints.newest_first(session, ended)]
        assert removal.untidy(session, 9) == []
    assert on_disk(ended) == sorted(kept)
    assert [path.rpartition("/")[2] for path in kept] == ["6", "4"]
    later = artifacts.attempt_dir(ended, 1) / "checkpoints" / "later"
    later.mkdir()
    tidied()
    assert later.is_dir(), "once is enough; what comes later is the doctor's"


def test_a_deleted_job_leaves_neither_files_nor_rows(database, identity, artifacts, ended, tidied, submit):
    other = submit()
    with database.transaction() as session:
        removal.request_delete(session, identity, ended)
    assert (artifacts.root / "jobs" / ended).is_dir()
    tidied()
    assert not (artifacts.root / "jobs" / ended).exists()
    assert (artifacts.root / "jobs" / other).is_dir()
    tables = ["job_metrics", "rollouts", "job_logs", "job_events", "checkpoints"]
    with database.transaction() as session:
        for table in tables:
            left = text(f"SELECT count(*) FROM {table} WHERE job_id = :id")  # noqa: S608 - of the list above
            assert session.scalar(left, {"id": ended}) == 0
        assert session.scalars(text("SELECT id FROM jobs")).all() == [other]


def test_the_rows_of_a_long_run_go_in_several_transactions(database, identity, ended, tidied, monkeypatch):
    monkeypatch.setattr(removal, "_ROWS", 2)
    with database.transaction() as session:
        removal.request_delete(session, identity, ended)
    with database.transaction() as session:
        assert not removal.delete_rows(session, ended)
        assert removal.untidy(session, 9), "cut off here, the next round goes on"
    tidied()
    with database.transaction() as session:
        assert removal.untidy(session, 9) == []


def test_a_folder_that_cannot_be_deleted_is_tried_again(database, identity, artifacts, ended, tidied, monkeypatch):
    with database.transaction() as session:
        removal.request_delete(session, identity, ended)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", refuse)
        tidied()
    with database.transaction() as session:
        assert removal.untidy(session, 9) == [removal.Untidy(ended, deleted=True)]
    tidied()
    with database.transaction() as session:
        assert removal.untidy(session, 9) == []
