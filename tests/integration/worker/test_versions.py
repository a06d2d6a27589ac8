"""Programs and databases one version apart: who works with whom during an upgrade, and who says why not."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from sqlalchemy import select, text

from api.main import create_app
from store import jobs, schema, workers
from store.access import Role
from store.models import Job, JobMetric
from store.status import JobStatus

NEXT = "9999"
MIGRATION = f'''
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{schema.head()}"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("of_the_next_version", sa.Text(), nullable=True))
    op.add_column("job_metrics", sa.Column("of_the_next_version", sa.Integer(), server_default="0", nullable=False))
    op.create_table("of_the_next_version", sa.Column("id", sa.Text(), primary_key=True))
'''


@pytest.fixture
def migrate_to_next(database_url, tmp_path, monkeypatch):
    """migrate_to_next(serves_from): bring the database to a version that this program does not know."""

    def migrate(serves_from: str) -> None:
        (tmp_path / "versions").mkdir()
        (tmp_path / "versions" / "next.py").write_text(MIGRATION)
        config = schema._config

        def with_next():
            found = config()
            found.set_main_option("version_locations", f"{files('migrations') / 'versions'}:{tmp_path / 'versions'}")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(schema, "_config", with_next)
            patch.setattr(schema, "SERVES_FROM", serves_from)
            assert schema.head() == NEXT
            schema.upgrade(database_url)

    return migrate


@pytest.fixture
def readyz(settings):
    """readyz(): what today's API answers."""

    def ask():
        with TestClient(create_app(settings)) as client:
            answer = client.get("/readyz")
        return answer.status_code, answer.json().get("detail")

    return ask


def registered(database):
    with database.transaction() as session:
        return workers.list_all(session)


def doctor(environment):
    command = [sys.executable, "-m", "worker.doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (finding,) = [each for each in json.loads(done.stdout) if each["about"] == "database"]
    return finding


def test_this_version_works_with_a_database_of_the_next(
    migrate_to_next, readyz, settings, environment, database, identity, make_key, submit, start_worker, wait_for_status
):
    migrate_to_next(serves_from=schema.head())
    assert readyz() == (200, None)
    job_id = submit(steps=4)
    start_worker()
    assert wait_for_status(job_id, JobStatus.SUCCEEDED).step == 4
    with TestClient(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {make_key(Role.ADMIN, identity.team_id).plain}"
        spec = client.get(f"/jobs/{job_id}").json()["spec"]
        assert client.post("/jobs", json=spec).status_code == 201
        assert client.get(f"/jobs/{job_id}/metrics").json()["keys"]["policy/loss"]["step"] == [1, 2, 3, 4]
    finding = doctor(environment)
    assert finding["level"] == "warning"
    assert f"schema {NEXT}, which still serves this program of {schema.head()}" in finding["message"]
    # Whoever migrates with this version once more changes nothing.
    schema.upgrade(settings.require_database_url())
    with database.transaction() as session:
        assert schema.current(session.connection()) == NEXT


def test_it_stays_away_from_one_that_does_not_serve_it(
    migrate_to_next,
    readyz,
    environment,
    database,
    database_url,
    submit,
    start_worker,
    wait_for_status,
    wait_until,
    caplog,
):
    migrate_to_next(serves_from=NEXT)
    words = f"the database has schema {NEXT}, which serves programs from {NEXT} on, not those of {schema.head()}"
    assert readyz() == (503, f"{words}: update this installation")
    assert doctor(environment)["level"] == "wrong"
    with pytest.raises(schema.Unfit, match=words):
        schema.upgrade(database_url)
    job_id = submit()
    start_worker()
    wait_until(lambda: words in caplog.text)
    assert registered(database) == []
    with psycopg.connect(database_url) as connection:
        connection.execute(f"COMMENT ON TABLE alembic_version IS 'serves programs from {schema.head()}'")
    wait_for_status(job_id, JobStatus.SUCCEEDED)
    assert caplog.text.count(words) == 1


def test_a_job_of_a_newer_api_is_given_back_and_the_old_worker_takes_no_more(
    migrate_to_next, database, submit, start_worker, job_of, wait_until
):
    migrate_to_next(serves_from=schema.head())
    job_id = submit()
    with database.transaction() as session:
        session.execute(text("""UPDATE jobs SET spec = spec || '{"newer": 1}'"""))
    start_worker()
    wait_until(lambda: (job := job_of(job_id)).attempt == 1 and job.status is JobStatus.QUEUED)
    (worker,) = wait_until(lambda: [each for each in registered(database) if each.draining_at is not None])
    assert worker.name == "one"
    later = submit("later")
    job = job_of(job_id)
    assert (job.status, job.attempt, job.crashes) == (JobStatus.QUEUED, 1, 0)
    assert job_of(later).status is JobStatus.QUEUED


def test_a_program_that_is_newer_than_the_database_waits_until_it_is_migrated(
    empty_database_url, settings, start_worker, wait_until, caplog
):
    schema.upgrade(empty_database_url, "0017")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("GRANT SELECT ON alembic_version TO asym_api")  # as it had when it was the newest
    words = f"the database has schema 0017, not {schema.head()}: migrate it"
    older = settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    with TestClient(create_app(older)) as client:
        assert client.get("/readyz").json()["detail"] == words
        start_worker(url=empty_database_url)
        wait_until(lambda: words in caplog.text)
        schema.upgrade(empty_database_url)
        with psycopg.connect(empty_database_url) as connection:
            wait_until(lambda: connection.execute("SELECT count(*) FROM workers").fetchone() == (1,))
        assert client.get("/readyz").status_code == 200


def test_what_a_worker_of_schema_0011_says_is_understood(database, database_url, identity, make_dataset, make_spec):
    """Its statements as they were recorded: a worker, a claim, a renewal, events, a checkpoint, retention, the end.

    Workers of there may be in service while the database is migrated; of its API 0012 took an index away.
    """
    spec = make_spec(make_dataset(identity).id, train={"steps": 3})
    with database.transaction() as session:
        job_id = jobs.create(session, identity, spec)[0].id
    names = {"{job}": job_id, "{team}": identity.team_id, "{worker}": "worker_of_0011"}
    script = Path(__file__).with_name("worker_of_0011.json").read_text()
    for name, value in names.items():
        script = script.replace(name, value)
    with psycopg.connect(database_url) as connection:
        for part in json.loads(script):
            with connection.transaction():
                for statement in part["statements"]:
                    given = statement["parameters"]
                    for parameters in given if isinstance(given, list) else [given]:
                        connection.execute(statement["sql"], {name: _value(it) for name, it in parameters.items()})
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.step, job.attempt, job.batch) == (JobStatus.SUCCEEDED, 3, 1, 3)
        rows = session.execute(select(JobMetric.step, JobMetric.values).order_by(JobMetric.step))
        assert [(step, values["reward/mean"]) for step, values in rows] == [(1, 0.5), (2, 0.75), (3, 1.0)]
        for table, count in (("checkpoints", 1), ("rollouts", 1), ("job_logs", 1)):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == count, table  # noqa: S608


def _value(recorded):
    if isinstance(recorded, dict):
        return Jsonb(recorded["Jsonb"]) if "Jsonb" in recorded else datetime.now(UTC)
    return recorded
