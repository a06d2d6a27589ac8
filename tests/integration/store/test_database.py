"""The pool: what it does about connections that are gone."""

import psycopg
from sqlalchemy import event, text

from store.database import Database


def backend(database: Database) -> int:
    with database.transaction() as session:
        return session.scalars(text("SELECT pg_backend_pid()")).one()


def test_a_connection_that_the_server_has_ended_is_replaced_before_anyone_uses_it(database_url):
    database = Database(database_url, pool_size=3)
    before = backend(database)
    with psycopg.connect(database_url, autocommit=True) as other:
        # Returns once the server process is gone.
        assert other.execute("SELECT pg_terminate_backend(%s, 30000)", [before]).fetchone() == (True,)
    assert backend(database) != before
    database.dispose()


def test_a_connection_in_use_is_not_asked_whether_it_is_there(database):
    said = []
    event.listen(database._engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    first = backend(database)
    assert backend(database) == first
    assert said == ["BEGIN", "SELECT pg_backend_pid()"] * 2


def test_what_raises_is_rolled_back_and_what_ends_is_committed(database):
    with database.transaction() as session:
        session.execute(text("INSERT INTO teams (id, name) VALUES ('team_1', 'kept')"))
    try:
        with database.transaction() as session:
            session.execute(text("INSERT INTO teams (id, name) VALUES ('team_2', 'gone')"))
            raise KeyError
    except KeyError:
        pass
    with database.transaction(snapshot=True) as session:
        assert session.scalars(text("SHOW transaction_isolation")).one() == "repeatable read"
        assert session.scalars(text("SELECT id FROM teams")).all() == ["team_1"]
