"""`python -m store.migrate`: the schema, and one first key however often and by however many it is run."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from store import keys, schema
from store.access import Role
from store.database import Database
from store.migrate import bootstrap
from store.secret import server_secret
from store.settings import Settings

ROOT = Path(__file__).parents[3]
ADDRESSES = ["--api-url", "http://a:1", "--dashboard-url", "http://d:2"]


def start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "store.migrate", *arguments],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(environment, *arguments):
    process = start(environment, *arguments)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def test_migrating_twice_and_twice_at_once_makes_one_key(environment, empty_database_url, home):
    environment = environment | {"ASYM_DATABASE_URL": empty_database_url}
    together = [start(environment, *ADDRESSES) for _ in range(2)]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in together]
    assert [code for _, code in ends] == [0, 0], ends
    assert sorted("first admin key" in errors for errors, _ in ends) == [False, True]
    file = home / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in home.iterdir()} == {"credentials.json", "secret"}, "nothing half-written beside them"
    assert stat.S_IMODE((home / "secret").stat().st_mode) == 0o600
    written = json.loads(file.read_text())
    assert {**written, "api_key": ""} == {"api_url": "http://a:1", "api_key": "", "dashboard_url": "http://d:2"}

    code, errors = run(environment)
    assert code == 0
    assert "first admin key" not in errors
    assert json.loads(file.read_text()) == written
    database = Database(empty_database_url, pool_size=1)
    with database.transaction() as session:
        assert session.scalars(text("SELECT count(*) FROM api_keys")).one() == 1
        assert session.scalars(text("SELECT secret_id FROM api_keys")).one() is not None, "hashed with the secret"
        secret = server_secret(Settings(home=home, artifacts=home))
        identity = keys.authenticate(session, written["api_key"], secret)
        assert schema.current(session.connection()) == schema.head()
    database.dispose()
    assert identity.role is Role.ADMIN


def test_a_key_that_cannot_be_written_is_not_made(database, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        bootstrap(database, tmp_path / "file" / "credentials.json", "a", "d")
    with database.transaction() as session:
        assert keys.claim_first(session)


def test_a_revoked_key_is_a_key(database, make_key, tmp_path):
    admin = make_key(Role.ADMIN).identity
    with database.transaction() as session:
        keys.revoke(session, admin, admin.key_id)
    assert not bootstrap(database, tmp_path / "credentials.json", "a", "d")
    assert list(tmp_path.glob("credentials.json")) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "ASYM_DATABASE_URL is not set"),
        ("mysql://h/d", "ASYM_DATABASE_URL"),
        ("nonsense", "ASYM_DATABASE_URL"),
    ],
)
def test_a_wrong_address_is_named(environment, url, message):
    code, errors = run(environment | {"ASYM_DATABASE_URL": url})
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
