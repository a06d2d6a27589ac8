"""The schema goes up, down and up again, and equals store.models."""

import psycopg

from store import schema


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
