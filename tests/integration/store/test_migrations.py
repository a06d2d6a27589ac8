"""The schema goes up, down and up again, and equals store.models."""

import hashlib

import psycopg
import pytest

from store import keys, schema
from store.access import Role
from store.database import Database


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_up_down_up(empty_database_url: str) -> None:
    assert schema.differences(empty_database_url)  # an empty database does differ
    schema.upgrade(empty_database_url)
    upgraded = tables(empty_database_url)
    assert {"jobs", "teams", "api_keys", "alembic_version"} <= upgraded
    schema.downgrade(empty_database_url, "base")
    assert tables(empty_database_url) == {"alembic_version"}
    schema.upgrade(empty_database_url)
    assert tables(empty_database_url) == upgraded
    assert schema.differences(empty_database_url) == []


@pytest.mark.parametrize("role", list(Role))
def test_keys_of_before_there_were_members_work_on(empty_database_url: str, role: Role) -> None:
    plain = "asym_" + "b3" * 26
    schema.upgrade(empty_database_url, "0010")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("INSERT INTO teams (id, name) VALUES ('team_1', 't')")
        connection.execute(
            "INSERT INTO api_keys (id, team_id, name, prefix, hash, role) "
            "VALUES ('key_1', 'team_1', 'ci', 'asym_b', %s, %s)",
            [hashlib.sha256(plain.encode()).hexdigest(), role.value],
        )
    schema.upgrade(empty_database_url)
    database = Database(empty_database_url, for_tenants=True)
    with database.statements() as session:
        identity = keys.authenticate(session, plain)
    database.dispose()
    assert identity is not None
    assert (identity.key_id, identity.member_id, identity.role) == ("key_1", "member_1", role)
    assert identity.scopes is None
    schema.downgrade(empty_database_url, "0010")
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT id, revoked_at FROM api_keys").fetchall() == [("key_1", None)]
