"""The doctor finds what was broken on purpose, says what to do, and touches nothing unless it is told to."""

import importlib.metadata
import json
import os
import socket
import threading
import time

import pytest
from sqlalchemy import text, update

from store import keys, leases, workers
from store.access import Role
from store.models import Dataset, Job
from store.secret import server_secret
from store.status import JobStatus
from trainer.spec import events
from worker import doctor, machine
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


def told(findings, about):
    return [
        (finding["level"], finding["message"], finding["advice"]) for finding in findings if finding["about"] == about
    ]


def test_files_that_open_the_platform_are_for_their_owner_only(examine, settings):
    server_secret(settings)
    assert told(examine()[1], "secrets") == [("ok", f"secret in {settings.home}: for this user only", "")]
    settings.secret_file.chmod(0o644)
    status, findings = examine()
    assert status == 1
    ((level, message, advice),) = told(findings, "secrets")
    assert (level, message) == ("wrong", f"{settings.secret_file} may be read by others (mode 644)")
    assert advice.startswith(f"chmod 600 {settings.secret_file}")


def test_keys_of_another_secret_are_wrong(examine, settings, database, make_key):
    with database.transaction() as session:
        keys.create(session, make_key().identity.team_id, "k", Role.ADMIN, secret=server_secret(settings))
    assert told(examine()[1], "keys") == []
    settings.secret_file.write_text("f" * 64)
    ((level, message, _),) = told(examine()[1], "keys")
    assert (level, message.partition(":")[0]) == ("wrong", "1 open nothing")


def test_packages_that_are_not_what_this_version_is_made_for(examine, monkeypatch):
    assert [level for level, _, _ in told(examine()[1], "versions")] == ["ok"]
    needs = ['celery<5,>=4; extra == "store"', "httpx>=0.1", 'numpy<1; extra == "verl"']
    monkeypatch.setattr("importlib.metadata.requires", lambda _: needs)
    celery = importlib.metadata.version("celery")
    assert told(examine()[1], "versions")[1:] == [
        (
            "warning",
            f"celery {celery} is installed; this version of Asym is made for <5,>=4",
            "pip install 'celery<5,>=4'",
        )
    ]


def test_gpus_that_torch_cannot_use(examine, monkeypatch):
    version = machine._version
    monkeypatch.setattr(machine, "_version", lambda name: "2.13.0+cpu" if name == "torch" else version(name))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    ((level, message, advice),) = told(examine()[1], "gpus")
    assert (level, "2 visible, but torch 2.13.0+cpu" in message) == ("warning", True)
    assert "CUDA build" in advice


def test_addresses_that_nobody_answers_at(examine, settings, free_port):
    api, dashboard = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    settings.credentials_file.write_text(json.dumps({"api_url": api, "api_key": "k", "dashboard_url": dashboard}))
    settings.credentials_file.chmod(0o600)
    found = told(examine()[1], "ports")
    assert [(level, advice) for level, _, advice in found] == [
        ("warning", "is `asym api` running?"),
        ("warning", "is `asym dashboard` running?"),
    ]
    assert f"the API does not answer at {api}/readyz" in found[0][1]


def test_a_usual_port_that_is_taken_before_the_platform_is_up(examine, monkeypatch):
    for variable in ("ASYM_DATABASE_URL", "ASYM_BROKER_URL"):
        monkeypatch.delenv(variable)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(machine, "DEFAULT_PORTS", {"API": taken.getsockname()[1]})
        ((level, _, advice),) = told(examine()[1], "ports")
    assert (level, advice) == ("warning", "asym up --api-port ANOTHER")


def test_a_sandbox_that_is_not_there(examine, monkeypatch, tmp_path):
    monkeypatch.setenv("ASYM_SANDBOX", "bubblewrap")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told(examine()[1], "sandbox") == [
        ("wrong", "ASYM_SANDBOX=bubblewrap, and there is no bwrap", "install the package bubblewrap")
    ]
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'No permissions to create a new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    ((level, message, advice),) = told(examine()[1], "sandbox")
    assert (level, message.partition(": ")[2]) == ("wrong", "No permissions to create a new namespace")
    assert "user namespaces" in advice


def test_a_folder_of_models(examine, monkeypatch, tmp_path):
    folder = tmp_path / "models"
    monkeypatch.setenv("ASYM_MODELS_DIR", str(folder))
    assert [level for level, _, _ in told(examine()[1], "models")] == ["ok", "wrong"]
    (folder / "mine").mkdir(parents=True)
    assert [level for level, _, _ in told(examine()[1], "models")] == ["ok", "warning"]
    (folder / "mine" / "model.safetensors").touch()
    assert told(examine()[1], "models")[1] == ("ok", f"path/NAME in {folder}: mine", "")


def test_a_sampler_engine_that_is_not_there(examine, monkeypatch):
    monkeypatch.setattr(machine, "_version", lambda _: None)
    monkeypatch.setenv("ASYM_SAMPLER_ENGINE", "vllm")
    ((level, message, advice),) = told(examine()[1], "sampler")
    assert (level, "ASYM_SAMPLER_ENGINE is vllm" in message) == ("wrong", True)
    assert "pip install 'asym-core[vllm]'" in advice
    monkeypatch.setenv("ASYM_SAMPLER_ENGINE", "auto")
    assert told(examine()[1], "sampler") == []
