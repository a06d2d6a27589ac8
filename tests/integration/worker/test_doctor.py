"""The doctor finds what was broken on purpose, says what to do, and touches nothing unless it is told to."""

import json
import os
import threading
import time

import pytest
from sqlalchemy import text, update

from store import leases, workers
from store.models import Dataset, Job
from store.status import JobStatus
from trainer.spec import events
from worker import doctor
from worker.tidying import tidy


@pytest.fixture
def examine(environment, monkeypatch):
    """examine(*options) -> (exit status, findings)"""
    for name in [name for name in os.environ if name.startswith("ASYM_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*options):
        told = []
        status = doctor.main([*options, "--json"], out=told.append)
        return status, json.loads("".join(told))

    return run


@pytest.fixture
def worker_id(database):
    with database.transaction() as session:
        return workers.register(session, name="w", host="here", pid=1, gpus=0, cpu_slots=1, version="1").id


@pytest.fixture
def ended(database, artifacts, submit, worker_id):
    """A job that succeeded, with one checkpoint whose file is there."""
    job_id = submit()
    folder = artifacts.attempt_dir(job_id, 1) / "checkpoints" / "4"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"w" * 100)
    import hashlib

    files = {"model/weights": {"bytes": 100, "sha256": hashlib.sha256(b"w" * 100).hexdigest()}}
    manifest = json.dumps({"format": 1, "step": 4, "files": files})
    (folder / "manifest.json").write_text(manifest)
    sha256 = hashlib.sha256(manifest.encode()).hexdigest()
    with database.transaction() as session:
        claim = leases.claim(session, worker_id, 0, 1, 60)
        checkpoint = events.Checkpoint(
            time=0, step=4, path="checkpoints/4", manifest_sha256=sha256, bytes=100, score=None
        )
        leases.record(session, job_id, claim.attempt, [checkpoint], [], batch=1)
        leases.finish(session, job_id, claim.attempt, JobStatus.SUCCEEDED)
    tidy(database, artifacts, threading.Event())
    return job_id


def of(findings, level):
    return [finding for finding in findings if finding["level"] == level]


def age(path, seconds=7200):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_nothing_is_wrong_with_a_platform_at_work(examine, ended):
    status, findings = examine("--verify")
    assert (status, of(findings, "wrong")) == (0, [])
    told = {finding["about"]: finding["message"] for finding in findings}
    assert told["jobs"] == "1 succeeded"
    assert told["workers"] == "1 alive with 0 GPUs in all"
    assert told["broker"] == "answers"
    assert "every byte" in told["files"]


def test_orphans_are_found_explained_and_deleted_when_asked(examine, ended, artifacts, database, identity):
    root = artifacts.root
    made = {
        "incoming/tmpabc": "an upload that was cut off",
        f"datasets/ab/{'ab' * 32}.jsonl": "no data set has this content",
        "jobs/job_gone/attempts/1/spec.yaml": "no such job",
        f"jobs/{ended}/attempts/1/checkpoints/.writing-6/model": "nothing starts from this checkpoint",
    }
    for path in made:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * 10)
    young = root / "incoming" / "tmpyoung"
    young.write_bytes(b"x")
    orphans = [root / path for path in list(made)[:2]]
    orphans += [root / "jobs" / "job_gone", root / f"jobs/{ended}/attempts/1/checkpoints/.writing-6"]
    for path in orphans:
        age(path)
    status, findings = examine()
    assert status == 0
    found = [finding["message"] for finding in of(findings, "warning") if finding["about"] == "orphan"]
    assert len(found) == len(made)
    for message, why in zip(found, made.values(), strict=True):
        assert why in message
    assert all(path.exists() for path in orphans)

    status, findings = examine("--delete-orphans")
    assert status == 0
    assert not any(path.exists() for path in orphans)
    assert young.exists()
    assert (root / f"jobs/{ended}/attempts/1/checkpoints/4/manifest.json").exists()
    with database.transaction() as session:
        dataset = session.get(Dataset, session.scalar(text("SELECT id FROM datasets")))
    assert artifacts.dataset_path(dataset.sha256, dataset.format).exists()
    assert not [finding for finding in examine()[1] if finding["about"].startswith("orphan")]


@pytest.mark.parametrize(
    ("damage", "options", "why"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), [], "manifest cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), [], "manifest is not the one"),
        (lambda folder: (folder / "model" / "weights").write_bytes(b"w" * 99), [], "missing or was cut"),
        (lambda folder: (folder / "model" / "weights").write_bytes(b"v" * 100), ["--verify"], "SHA-256 differs"),
    ],
)
def test_a_damaged_checkpoint_is_wrong(examine, ended, artifacts, damage, options, why):
    damage(artifacts.attempt_dir(ended, 1) / "checkpoints" / "4")
    status, findings = examine(*options)
    (found,) = of(findings, "wrong")
    assert status == 1
    assert found["message"].startswith(f"{ended}@4: ")
    assert why in found["message"]
    assert found["advice"]


def test_a_data_set_without_its_file_is_wrong(examine, ended, artifacts, database):
    with database.transaction() as session:
        id, sha256 = session.execute(text("SELECT id, sha256 FROM datasets")).one()
    artifacts.dataset_path(sha256, "jsonl").unlink()
    (found,) = of(examine()[1], "wrong")
    assert (found["about"], id in found["message"]) == ("data set", True)


def test_what_stands_still_is_wrong(examine, database, submit, worker_id):
    job_id = submit()
    with database.transaction() as session:
        leases.claim(session, worker_id, 0, 1, 60)
        session.execute(
            update(Job).where(Job.id == job_id).values(lease_until=text("clock_timestamp() - interval '10 minutes'"))
        )
        workers.stop(session, worker_id)
    told = {finding["about"]: finding["message"] for finding in of(examine()[1], "wrong")}
    assert set(told) == {"jobs", "workers"}
    assert job_id in told["jobs"]


def test_servers_that_are_away_and_an_old_schema_are_wrong(examine, monkeypatch, empty_database_url):
    monkeypatch.setenv("ASYM_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("ASYM_BROKER_URL", "redis://127.0.0.1:1/0")
    wrong = {finding["about"]: finding for finding in of(examine()[1], "wrong")}
    assert set(wrong) == {"broker", "database"}
    assert wrong["database"]["advice"] == "run `asym migrate`"
    monkeypatch.setenv("ASYM_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert "does not answer" in {f["about"]: f["message"] for f in of(examine()[1], "wrong")}["database"]


def test_without_servers_it_says_what_to_start(examine, monkeypatch):
    monkeypatch.delenv("ASYM_DATABASE_URL")
    monkeypatch.delenv("ASYM_BROKER_URL")
    status, findings = examine()
    assert status == 1
    assert [finding["about"] for finding in of(findings, "wrong")] == ["broker", "database"]
    assert all("asym up" in finding["advice"] for finding in of(findings, "wrong"))
