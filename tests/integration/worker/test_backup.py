"""A backup of a platform at work is one moment of it, and restored it goes on from there; nothing else is restored."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from store import jobs, orphans, schema
from store.artifacts import Artifacts
from store.backup import dumps, manifest, writing
from store.backup.manifest import BackupError, Manifest
from store.backup.reaching import database_of
from store.backup.restoring import restore
from store.database import Database
from store.migrate import bootstrap
from store.models import JobMetric
from store.secret import server_secret
from store.settings import Settings
from store.status import JobStatus


@pytest.fixture
def elsewhere(tmp_path, empty_database_url):
    """Settings of an empty platform beside the test's own."""
    home = tmp_path / "elsewhere"
    return Settings(home=home, artifacts=home / "artifacts", database_url=SecretStr(empty_database_url))


def make(settings: Settings, folder: Path) -> Manifest:
    return writing.make(settings, settings.require_database_url(), folder)


def steps_on_disk(artifacts: Artifacts, job_id: str) -> set[int]:
    return {int(Path(path).name) for path in artifacts.checkpoints_on_disk(job_id, artifacts.attempts_on_disk(job_id))}


def test_a_backup_under_a_running_job_goes_on_elsewhere(
    settings, artifacts, identity, start_worker, submit, job_of, wait_until, elsewhere, tmp_path, monkeypatch
):
    job_id = submit(steps=20, hold=5, every=1)
    holds = artifacts.root / "jobs" / job_id
    for step in (9, 13):
        (holds / f"hold-{step}").touch()
    waiting = submit("waits", steps=3)
    start_worker()
    wait_until(lambda: steps_on_disk(artifacts, job_id) == {3, 4})

    def on_to(step: int, then: set[int]) -> None:
        """The job trains on, and retention deletes what it had."""
        (holds / f"hold-{step}").unlink()
        wait_until(lambda: steps_on_disk(artifacts, job_id) == then)

    needed, dump, looked = writing._needed, dumps.dump, []

    def needed_then_deleted(session, artifacts):
        found = list(needed(session, artifacts))
        looked.append({each.path for each in found if each.is_checkpoint})
        if len(looked) == 1:
            on_to(5, {7, 8})
        return found

    def dump_after_more_is_deleted(*arguments):
        on_to(9, {11, 12})
        dump(*arguments)

    monkeypatch.setattr(writing, "_needed", needed_then_deleted)
    monkeypatch.setattr(dumps, "dump", dump_after_more_is_deleted)
    made = make(settings, tmp_path / "backup")
    assert made.missing == {}
    assert [sorted(int(Path(path).name) for path in paths) for paths in looked] == [[3, 4], [7, 8]]
    assert not list((artifacts.root / "pins").iterdir())
    assert job_of(job_id).status is JobStatus.RUNNING

    found, going_on = restore(elsewhere, tmp_path / "backup")
    assert (found, going_on) == (made, 1)
    restored = Database(elsewhere.require_database_url(), pool_size=2)
    there = Artifacts(elsewhere.artifacts)
    with restored.transaction() as session:
        job = jobs.get(session, identity, job_id)
        assert (job.status, job.step, job.attempt, job.crashes) == (JobStatus.QUEUED, 8, 1, 0)
        assert jobs.get(session, identity, waiting).status is JobStatus.QUEUED
        assert list(orphans.missing_files(session, there, verify=True)) == []
    assert steps_on_disk(there, job_id) == {7, 8}
    start_worker("two", url=elsewhere.require_database_url(), home_settings=elsewhere)

    def ended(id: str) -> bool:
        with restored.transaction() as session:
            return jobs.get(session, identity, id).status is JobStatus.SUCCEEDED

    wait_until(lambda: ended(job_id) and ended(waiting))
    with restored.transaction() as session:
        rows = session.execute(
            select(JobMetric.step, JobMetric.attempt).where(JobMetric.job_id == job_id).order_by(JobMetric.step)
        ).all()
    assert [tuple(row) for row in rows] == [(step, 1 if step <= 8 else 2) for step in range(1, 21)]
    restored.dispose()
    # The first platform has noticed nothing.
    (holds / "hold-13").unlink()
    wait_until(lambda: job_of(job_id).status is JobStatus.SUCCEEDED)


@pytest.fixture
def backup(settings, database, identity, make_dataset, tmp_path):
    """Of a platform with a data set and a secret."""
    make_dataset(identity)
    server_secret(settings)
    folder = tmp_path / "backup"
    make(settings, folder)
    return folder


def nothing_is_there(settings: Settings) -> bool:
    with psycopg.connect(settings.require_database_url()) as connection:
        tables = connection.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
        return tables.fetchone() == (0,) and not (settings.home.exists() and any(settings.home.iterdir()))


def test_what_is_in_it_and_who_may_read_it(backup, settings):
    found = manifest.read(backup)
    (data,) = [name for name in found.files if name.startswith("artifacts/datasets/")]
    assert set(found.files) == {"database.dump", "secret", data}
    assert found.db_schema == schema.head()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in backup.rglob("*") if path.is_file()} == {0o600}
    with pytest.raises(BackupError, match="is there already"):
        make(settings, backup)


def test_a_file_that_was_changed_is_noticed_and_nothing_is_left(backup, elsewhere):
    (path,) = (backup / "artifacts" / "datasets").rglob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"10+20", b"10+21"))
    with pytest.raises(BackupError, match=f"{path.name} is not what was written"):
        restore(elsewhere, backup)
    assert nothing_is_there(elsewhere)


def test_a_home_or_a_database_that_is_not_empty_is_refused(backup, elsewhere, settings):
    with pytest.raises(BackupError, match="is not empty: a backup is restored into an empty home"):
        restore(settings, backup)
    with pytest.raises(BackupError, match="the database is not empty"):
        restore(elsewhere.model_copy(update={"database_url": settings.database_url}), backup)
    assert nothing_is_there(elsewhere)


EMPTY = {"bytes": 0, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"db_schema": "9999"}, "restore with that version or a newer one"),
        ({"format": 2}, "made by a newer Asym"),
        ({"files": {"database.dump": EMPTY, "artifacts/../../x": EMPTY}}, "not a path of a backup"),
    ],
)
def test_a_manifest_that_is_not_for_us_is_refused(backup, elsewhere, change, said):
    path = backup / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BackupError, match=said):
        restore(elsewhere, backup)
    assert nothing_is_there(elsewhere)


def test_a_backup_that_was_cut_off_is_none(backup, elsewhere):
    (backup / "manifest.json").unlink()
    with pytest.raises(BackupError, match="not a backup, or one that was cut off"):
        restore(elsewhere, backup)


def test_without_the_secret_of_its_keys_it_is_refused(backup, elsewhere):
    other = elsewhere.model_copy(update={"secret": SecretStr("another secret, long enough")})
    with pytest.raises(BackupError, match="no key of the backup would open anything"):
        restore(other, backup)
    assert nothing_is_there(other)


def test_what_is_damaged_is_named_and_the_rest_is_backed_up(settings, artifacts, identity, make_dataset, tmp_path):
    good, bad, gone = (make_dataset(identity, [{"prompt": f"{n}+1=", "answer": str(n + 1)}]) for n in range(3))
    artifacts.dataset_path(bad.sha256, "jsonl").write_text("rotten\n")
    artifacts.dataset_path(gone.sha256, "jsonl").unlink()
    made = make(settings, tmp_path / "backup")
    assert set(made.missing) == {bad.id, gone.id}
    assert [name for name in made.files if name.startswith("artifacts/")] == [
        f"artifacts/datasets/{good.sha256[:2]}/{good.sha256}.jsonl"
    ]


def test_one_of_an_older_version_is_migrated(settings, servers, elsewhere, tmp_path):
    with psycopg.connect(servers.database("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE older TEMPLATE template0")
    schema.upgrade(servers.database("older"), "0017")
    older = settings.model_copy(update={"database_url": SecretStr(servers.database("older"))})
    assert make(older, tmp_path / "backup").db_schema == "0017"
    restore(elsewhere, tmp_path / "backup")
    assert schema.differences(elsewhere.require_database_url()) == []


def test_the_commands_bring_an_embedded_platform_from_one_home_to_another(tmp_path):
    home, copy, folder = tmp_path / "home", tmp_path / "copy", tmp_path / "backup"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}

    def asym(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client", *arguments]
        return subprocess.run(
            command,
            env=environment | {"ASYM_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    nothing = asym(home, "backup", str(folder))
    assert (nothing.returncode, nothing.stderr) == (
        2,
        f"backup: there is no platform in {home}: set ASYM_HOME, or ASYM_DATABASE_URL\n",
    )
    settings = Settings(home=home, artifacts=home / "artifacts")
    home.mkdir(mode=0o700)
    with database_of(settings) as url:
        schema.upgrade(url)
        database = Database(url, pool_size=1)
        bootstrap(database, settings.credentials_file, "http://api", "http://dashboard", server_secret(settings))
        database.dispose()
        made = asym(home, "backup", str(folder), "--json")  # beside the running servers
        assert (made.returncode, json.loads(made.stdout)["missing"]) == (0, {}), made.stderr
    restored = asym(copy, "restore", str(folder), "--json")
    assert (restored.returncode, json.loads(restored.stdout)["missing"]) == (0, {}), restored.stderr
    for name in ("secret", "credentials.json"):
        assert (copy / name).read_bytes() == (home / name).read_bytes()
        assert stat.S_IMODE((copy / name).stat().st_mode) == 0o600
    with database_of(Settings(home=copy, artifacts=copy / "artifacts")) as url:
        assert schema.differences(url) == []
    again = asym(copy, "restore", str(folder))
    assert (again.returncode, again.stdout) == (1, "")
    assert f"{copy} is not empty" in again.stderr
