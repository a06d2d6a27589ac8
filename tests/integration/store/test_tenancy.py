"""The second belt: with the repositories' filter left out, the serving role still sees and writes its own team only."""

from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from store import audit, datasets, jobs, queue, reservations, schema, tenancy, usage, workers
from store.access import Role
from store.audit import Deed
from store.database import Database, sqlalchemy_url
from store.ids import new_id
from store.models import Base, Sweep, SweepMember
from store.policy import Policy
from store.webhooks import hooks

TABLES = sorted(Base.metadata.tables)
OF_A_TEAM = [name for name in TABLES if (rule := tenancy.rule_of(Base.metadata.tables[name])) and rule.policies]


@pytest.fixture
def tenants(database_url):
    """The database as the API uses it."""
    database = Database(database_url, pool_size=5, for_tenants=True)
    yield database
    database.dispose()


@contextmanager
def as_team(tenants, identity):
    with tenancy.serving(identity.team_id), tenants.transaction() as session:
        yield session


@pytest.fixture
def busy_team(database, make_key, make_dataset, make_spec, claim):
    """busy_team(): a team with at least one row in every table that is a team's."""

    def make():
        identity = make_key(Role.ADMIN).identity
        dataset = make_dataset(identity, [{"prompt": "1+1=", "answer": "2", "team": identity.team_id}])
        with database.transaction() as session:
            job, _ = jobs.create(session, identity, make_spec(dataset.id))
        claimed = claim()
        assert claimed.job_id == job.id
        with database.transaction() as session:
            usage.charge(session, job.id, claimed.attempt, Policy())
            audit.record(session, Deed("::1", "test", job.id, 200, identity.team_id))
            sweep = Sweep(
                id=new_id("sweep"),
                team_id=identity.team_id,
                created_by=identity.key_id,
                name="betas",
                plan={"team": identity.team_id},
                ruled=False,
            )
            session.add(sweep)
            session.flush()
            session.add(SweepMember(sweep_id=sweep.id, number=0, job_id=job.id, point={}, seed=0))
            hook = hooks.create(session, identity, name="h", url="https://h.example/", events=[], tags=[])
            hooks.test(session, identity, hook.id)
            session.flush()
            for table in OF_A_TEAM:
                _fill(session, table, job.id, identity.team_id)
        return identity, job.id, dataset

    return make


def _fill(session, table, job_id, team_id):
    """One row, whatever the columns, where the table has none of this team's yet."""
    columns = Base.metadata.tables[table].columns
    owner = "team_id" if "team_id" in columns else "job_id" if "job_id" in columns else "id"
    value = job_id if owner == "job_id" else team_id
    if session.scalar(text(f"SELECT count(*) FROM {table} WHERE {owner} = :value"), {"value": value}):
        return
    needed = {
        column.name: _sample(column.type)
        for column in columns
        if not column.nullable and column.server_default is None and column.identity is None
    }
    needed[owner] = f"'{value}'"
    names, values = ", ".join(f'"{name}"' for name in needed), ", ".join(needed.values())
    session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"))


def _sample(kind):
    match str(kind).partition("(")[0]:
        case "TEXT":
            return "'x'"
        case "JSONB":
            return "'{}'"
        case "DATE" | "DATETIME" | "TIMESTAMP":
            return "now()"
        case "BOOLEAN":
            return "false"
        case "BYTEA" | "BLOB":
            return r"'\x00'"
        case word:
            return "'{}'" if word.endswith("[]") else "1"


def test_every_table_has_a_rule():
    for name in TABLES:
        assert tenancy.rule_of(Base.metadata.tables[name]) is not None, f"store.tenancy says nothing of {name}"
    assert len(OF_A_TEAM) >= 11


def test_the_api_serves_as_a_role_that_owns_and_bypasses_nothing(tenants):
    with tenants.transaction() as session:
        role = session.execute(
            text(
                "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb FROM pg_roles "
                "WHERE rolname = current_user"
            )
        ).one()
        owned = session.scalars(
            text("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = current_user")
        ).one()
    assert tuple(role) == (tenancy.SERVING_ROLE, False, False, False, False, False)
    assert owned == 0


def test_without_the_filter_a_team_still_sees_its_own_rows_only(tenants, busy_team):
    mine, theirs = busy_team(), busy_team()
    for table in OF_A_TEAM:
        everything = text(f"SELECT row_to_json(t)::text FROM {table} t")
        with as_team(tenants, mine[0]) as session:
            seen = session.scalars(everything).all()
        with as_team(tenants, theirs[0]) as session:
            others = session.scalars(everything).all()
        with tenants.transaction() as session:
            nobodys = session.scalars(everything).all()
        assert seen, f"the team has no row in {table}: nothing is shown by this"
        assert others
        assert not set(seen) & set(others), table
        assert nobodys == [], f"{table} is open to a transaction of no team"


def test_without_the_filter_a_team_changes_its_own_rows_only(tenants, database, busy_team):
    mine, theirs = busy_team(), busy_team()
    for table in OF_A_TEAM:
        rule = tenancy.rule_of(Base.metadata.tables[table])
        columns = Base.metadata.tables[table].columns
        column = next(c.name for c in columns if not c.primary_key and c.name not in ("team_id", "job_id"))
        if table == "teams":
            column = "name"
        update = text(f'UPDATE {table} SET "{column}" = "{column}"')
        if any(grant.startswith("UPDATE") for grant in rule.grants):
            with as_team(tenants, mine[0]) as session:
                touched = session.execute(update).rowcount
            with database.transaction() as session:
                total = session.scalars(text(f"SELECT count(*) FROM {table}")).one()
            assert 0 < touched < total, table
        else:
            with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, mine[0]) as session:
                session.execute(update)
        with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, mine[0]) as session:
            session.execute(text(f"DELETE FROM {table}"))
    assert theirs


def test_rows_cannot_be_given_to_or_taken_from_another_team(tenants, busy_team):
    mine, theirs = busy_team(), busy_team()
    with as_team(tenants, mine[0]) as session:
        assert session.execute(text("UPDATE jobs SET name = 'x' WHERE id = :id"), {"id": theirs[1]}).rowcount == 0
    for statement in (
        "UPDATE jobs SET team_id = :them",
        "UPDATE datasets SET team_id = :them",
        "INSERT INTO members (id, team_id, name, role) VALUES ('member_x', :them, 'x', 'admin')",
        "INSERT INTO job_events (job_id, attempt, level, type, message, data) VALUES (:job, 1, '', '', '', '{}')",
        "INSERT INTO audit_log (team_id, address, action, object, status) VALUES (:them, '', '', '', 200)",
    ):
        with pytest.raises(DBAPIError, match="row-level security"), as_team(tenants, mine[0]) as session:
            session.execute(text(statement), {"them": theirs[0].team_id, "job": theirs[1]})


def test_a_team_cannot_raise_its_own_limits(tenants, busy_team):
    identity, _, _ = busy_team()
    with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, identity) as session:
        session.execute(text("UPDATE teams SET max_running_gpus = -1"))
    with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, identity) as session:
        session.execute(text("UPDATE team_usage SET month_seconds = 0"))


def test_the_audit_log_cannot_be_rewritten(tenants, busy_team):
    identity, _, _ = busy_team()
    for statement in ("UPDATE audit_log SET status = 200", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, identity) as session:
            session.execute(text(statement))


def test_the_team_ends_with_its_transaction(tenants, busy_team):
    identity, job_id, _ = busy_team()
    with as_team(tenants, identity) as session:
        assert session.scalars(text("SELECT id FROM jobs")).all() == [job_id]
    with tenants.statements() as session:
        assert session.scalars(text("SELECT id FROM jobs")).all() == []


def test_the_queue_and_contents_are_seen_whole_and_nothing_else_is(tenants, database, busy_team, queue_job, make_key):
    identity, _, dataset = busy_team()
    stranger = make_key(Role.ADMIN).identity
    queue_job(identity, dataset.id)
    with as_team(tenants, stranger) as session:
        assert not session.scalars(text("SELECT id FROM datasets")).all()
        assert datasets.blob_in_use(session, dataset.sha256), "its file would be deleted under another team"
        assert len(workers.running_jobs(session, [w.id for w in workers.list_all(session)])) == 1
        assert reservations.kept_gpus(session) == {}
        assert not session.scalars(text("SELECT id FROM jobs")).all(), "the view is closed again"
        with tenancy.platform_view(session):
            assert len(session.scalars(text("SELECT id FROM jobs")).all()) == 2
            assert session.scalars(text("SELECT id FROM api_keys")).all() == []
            assert session.scalars(text("SELECT id FROM job_events")).all() == []
            assert session.execute(text("UPDATE jobs SET name = 'x'")).rowcount == 0


def test_a_place_in_line_is_the_same_for_tenants_and_for_the_owner(
    tenants, database, make_key, make_dataset, queue_job, make_worker
):
    make_worker(cpu_slots=0, gpus=1)
    people = [make_key(Role.ADMIN).identity for _ in range(3)]
    ids = {who: queue_job(who, make_dataset(who).id) for who in people}
    for who in people:
        with as_team(tenants, who) as session:
            seen = queue.queue_info(session, jobs.get(session, who, ids[who]))
        with database.transaction() as session:
            assert seen == queue.queue_info(session, jobs.get(session, who, ids[who]))


def test_migrating_again_changes_no_policy(database_url):
    policies = "SELECT oid, polname FROM pg_policy ORDER BY oid"
    with psycopg.connect(database_url) as connection:
        before = connection.execute(policies).fetchall()
    schema.upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute(policies).fetchall() == before


def test_a_policy_that_was_changed_by_hand_or_version_is_put_right(database_url, tenants, busy_team):
    identity, _, _ = busy_team()
    with psycopg.connect(database_url) as connection:
        (name,) = connection.execute(
            "SELECT polname FROM pg_policy WHERE polrelid = 'datasets'::regclass LIMIT 1"
        ).fetchone()
        connection.execute(f"DROP POLICY {name} ON datasets")
        connection.execute("CREATE POLICY open ON datasets USING (true)")
        connection.execute("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY")
        connection.execute(f"GRANT DELETE ON jobs TO {tenancy.SERVING_ROLE}")
    schema.upgrade(database_url)
    test_without_the_filter_a_team_still_sees_its_own_rows_only(tenants, busy_team)
    with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, identity) as session:
        session.execute(text("DELETE FROM jobs"))


def test_without_the_role_it_goes_on_and_says_so(empty_database_url, caplog):
    """A user who may make neither roles nor grants: the tables are there, the API serves as this user."""
    name = empty_database_url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE plain_{name} LOGIN NOSUPERUSER")
        connection.execute(f"GRANT ALL ON SCHEMA public TO plain_{name}")
    url = empty_database_url.replace("postgres@", f"plain_{name}@")
    schema.upgrade(url)
    assert "cannot be made or taken on" in caplog.text
    tenants = Database(url, for_tenants=True)
    with tenants.transaction() as session:
        assert session.scalars(text("SELECT current_user")).one() == f"plain_{name}"
    assert "row-level security is not in force" in caplog.text
    # As soon as an administrator has made it so, without a restart.
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"GRANT {tenancy.SERVING_ROLE} TO plain_{name}")
    schema.upgrade(url)
    with tenants.transaction() as session:
        assert session.scalars(text("SELECT current_user")).one() == tenancy.SERVING_ROLE
    tenants.dispose()
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY plain_{name}")
        connection.execute(f"DROP ROLE plain_{name}")


def test_tables_that_no_rule_names_are_closed(database_url, tenants, busy_team):
    identity, _, _ = busy_team()
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE fresh (id text)"))
        connection.execute(text("INSERT INTO fresh VALUES ('x')"))
    engine.dispose()
    with pytest.raises(DBAPIError, match="permission denied"), as_team(tenants, identity) as session:
        session.execute(text("SELECT * FROM fresh"))
