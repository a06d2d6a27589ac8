"""Searching as the role that serves: through the index, within one's own team. By what is read, not by the clock."""

from collections import Counter
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from store import job_lists, job_words, jobs, tenancy
from store.access import Role
from store.database import Database
from store.job_lists import Filter, Sort

COUNT = 12_000
ASKED = "SELECT asym_jobs_found(NULL, ARRAY['needl'], NULL, 50)"
FACADE = {"metadata": {"lab": "rare"}}


@pytest.fixture
def tenants(database_url):
    """The database as the API uses it."""
    served = Database(database_url, pool_size=1, for_tenants=True)
    yield served
    served.dispose()


@contextmanager
def as_team(tenants, identity):
    with tenancy.serving(identity.team_id), tenants.transaction() as session:
        yield session


@pytest.fixture
def crowd(database, make_key, make_dataset, make_spec):
    """crowd(count): a team with so many jobs that have a word in common; the oldest three have more than that."""

    def make(count=50):
        identity = make_key(Role.MEMBER).identity
        with database.transaction() as session:
            first, _ = jobs.create(session, identity, make_spec(make_dataset(identity).id))
            session.execute(
                text("""
                INSERT INTO jobs (id, team_id, created_by, name, status, spec, demand, model, max_attempts, steps,
                                  words, tags, facade)
                SELECT old.id || to_char(number, 'FM000000'), old.team_id, old.created_by, 'run', 'cancelled', '{}', '',
                       '', 1, 1, CASE WHEN number <= 3 THEN CAST(:rare AS text[]) ELSE CAST(:common AS text[]) END,
                       CASE WHEN number <= 3 THEN ARRAY['rare'] ELSE '{}' END,
                       CASE WHEN number <= 3 THEN CAST('{"metadata": {"lab": "rare"}}' AS jsonb) END
                FROM jobs AS old, generate_series(1, :count) AS number WHERE old.id = :first
                """),
                {
                    "first": first.id,
                    "count": count,
                    "rare": job_words.beginnings("run needle", ""),
                    "common": job_words.beginnings("run", ""),
                },
            )
            session.execute(text("ANALYZE jobs"))
        return identity, [f"{first.id}{number:06}" for number in (3, 2, 1)]

    return make


def read_so_far(session):
    """What this connection has read: rows of `jobs` one after the other, entries of each of its indexes."""
    counts = session.execute(
        text("""
        SELECT relname, pg_stat_get_xact_tuples_returned(oid), pg_stat_get_xact_numscans(oid) FROM pg_class
        WHERE oid = 'jobs'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'jobs'::regclass)
        """)
    ).all()
    return Counter({name: rows for name, rows, _ in counts}), Counter({name: scans for name, _, scans in counts})


SEARCHES = {
    "ix_jobs_words": Filter(text="needl"),
    "ix_jobs_tags": Filter(tags=["rare"]),
    "ix_jobs_facade": Filter(facade=FACADE),
}


@pytest.mark.parametrize("sort", [Sort.NEWEST, Sort.NAME_DOWN])
def test_a_rare_entry_is_found_through_its_index(tenants, crowd, sort):
    identity, expected = crowd(COUNT)
    for index, wanted in SEARCHES.items():
        with as_team(tenants, identity) as session:
            rows, scans = read_so_far(session)
            found = job_lists.find(session, identity, wanted, sort, 50)
            rows_after, scans_after = read_so_far(session)
        assert [each.id for each in found] == expected, index
        assert (scans_after - scans)[index] == 1
        read = rows_after - rows
        assert read["jobs"] == 0, "the table was read from its beginning to its end"
        # The nearest twice, once for where they end; then what is found, in the index and by id.
        assert read.total() <= 2 * job_lists._NEAREST + 20, read


def test_behind_the_policy_alone_the_same_search_reads_every_job(tenants, crowd):
    """Why there is a function; the day this fails it may go."""
    identity, expected = crowd(COUNT)
    with as_team(tenants, identity) as session:
        rows, _ = read_so_far(session)
        found = session.scalars(text("SELECT id FROM jobs WHERE words @> ARRAY['needl'] ORDER BY id DESC")).all()
        read = read_so_far(session)[0] - rows
    assert found == expected
    assert read.total() >= COUNT


def test_what_the_function_reads_does_not_grow_with_the_team(tenants, crowd):
    identity, _ = crowd(COUNT)
    with as_team(tenants, identity) as session:
        session.execute(text(ASKED))  # the first time it is compiled, which reads catalogues
        (plan,) = session.scalars(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {ASKED}")).one()
        pages = session.scalars(text("SELECT pg_relation_size('jobs') / 8192")).one()
    assert plan["Plan"]["Actual Rows"] == 3
    touched = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    assert touched < pages / 10, f"{touched} of {pages} pages"


def test_no_team_finds_what_is_another_teams(tenants, crowd, database):
    (mine, my_ids), (theirs, their_ids) = crowd(), crowd()
    with database.transaction() as session:
        assert len(session.scalars(text("SELECT id FROM jobs WHERE words @> ARRAY['needl']")).all()) == 6
    with as_team(tenants, mine) as session:
        assert sorted(session.scalars(text(ASKED)).all(), reverse=True) == my_ids
        with tenancy.platform_view(session):
            assert session.scalars(text(ASKED)).all() == [], "the platform's view is not for searching"
    with tenants.transaction() as session:
        assert session.scalars(text(ASKED)).all() == [], "nobody's transaction"
    # Somebody whose identity and whose transaction are not of one team sees what is in both: nothing.
    with as_team(tenants, mine) as session:
        assert job_lists.find(session, theirs, Filter(text="needl"), Sort.NEWEST, 50) == []
    with database.transaction() as session:
        session.execute(text("UPDATE jobs SET deleted_at = now() WHERE id = :id"), {"id": their_ids[0]})
    with as_team(tenants, theirs) as session:
        assert sorted(session.scalars(text(ASKED)).all(), reverse=True) == their_ids[1:], "deleted jobs are nobody's"


def test_ids_that_are_another_teams_are_shown_to_nobody(tenants, crowd, monkeypatch):
    """Were the function to fail: filter and policy hold behind it."""
    (mine, _), (_, their_ids) = crowd(), crowd()
    monkeypatch.setattr(job_lists, "_NEAREST", 10)
    monkeypatch.setattr(job_lists._Search, "ids", lambda *_: their_ids)
    with as_team(tenants, mine) as session:
        assert job_lists.find(session, mine, Filter(text="needl"), Sort.NEWEST, 50) == []


def test_the_function_cannot_be_led_to_another_table_nor_used_by_others(tenants, crowd):
    identity, ids = crowd()
    with as_team(tenants, identity) as session:
        session.execute(text("CREATE TEMP TABLE jobs ON COMMIT DROP AS SELECT * FROM jobs WHERE false"))
        assert sorted(session.scalars(text(ASKED)).all(), reverse=True) == ids
        for function in tenancy._AS_OWNER:
            may = text("SELECT has_function_privilege('public', :function, 'EXECUTE')")
            assert session.scalars(may, {"function": function}).one() is False, function
