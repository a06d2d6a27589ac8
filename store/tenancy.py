"""Row-level security: the database's own line between teams, a second belt behind store.access.

The API's connections take on the role `asym_api`, which owns nothing, bypasses nothing and sees only rows of the team
that its transaction names in `asym.team_id`; a transaction that names none sees nothing. So a query that forgot its
filter finds its own team's rows, and an INSERT or UPDATE for another team fails. Workers, the sweeper and migrations
are the tables' owner, for whom no policy holds.

Four things need to see beyond a team, and say so: authentication (the function `asym_authenticate`, which finds a key
by its hash and nothing else), signing in (`asym_memberships`: the teams of one login and nothing else), the queue
(`platform_view`: where a job stands among everyone's), and the content of data sets (`platform_view`: whether anyone
else has the same bytes).

A fifth reads as the owner and sees no further: `asym_jobs_found`. Behind a policy Postgres uses an index only for
operators that are known to tell nothing of the rows they refuse, which `@>` is not; so a search as the serving role
would read every job of the team. The function has the policy's condition within and gives ids alone; whoever shows a
job of such an id finds it through filter and policy like any other.

What holds for a table follows from its columns (`rule_of`), so that a new table is either covered or, having no rule,
closed to the API. `enforce` brings a database there; every migration ends with it.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from psycopg.sql import quote
from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from store.models import TAGGED

_log = logging.getLogger(__name__)

SERVING_ROLE = "asym_api"
PLATFORM = "*"
"""As `asym.team_id`: reads what `platform_view` tables have, of all teams. No team's id."""

_CURRENT = "(SELECT current_setting('asym.team_id', true))"
_team: ContextVar[str] = ContextVar("asym_team", default="")


def serve(team_id: str) -> None:
    """From here on, in this request, transactions are this team's."""
    _team.set(team_id)


@contextmanager
def serving(team_id: str) -> Iterator[None]:
    """Transactions in this block are this team's."""
    token = _team.set(team_id)
    try:
        yield
    finally:
        _team.reset(token)


def current_team() -> str:
    """The team whose request this is; empty when it is nobody's."""
    return _team.get()


_TEAM_KEY = "store.tenancy"


def enter(session: Session) -> str:
    """The statement with which a transaction of the serving role becomes the current team's."""
    session.info[_TEAM_KEY] = current_team()
    return f"SELECT set_config('asym.team_id', {quote(current_team())}, true)"


@contextmanager
def platform_view(session: Session) -> Iterator[None]:
    """What is read in this block may be of any team. Whoever is no tenant (workers, the sweeper) sees it anyway."""
    team = session.info.get(_TEAM_KEY)
    if team is None:
        yield
        return
    session.flush()
    _see(session, PLATFORM)
    yield
    # Not after an error: the transaction is broken then, and its end ends the view.
    _see(session, team)


def _see(session: Session, team: str) -> None:
    # Every request does it, so past SQLAlchemy's own language.
    session.connection().exec_driver_sql("SELECT set_config('asym.team_id', %s, true)", (team,))


@dataclass(frozen=True)
class Rule:
    """What the serving role may do with a table. Without policies every row is open to what is granted."""

    grants: tuple[str, ...]
    policies: dict[str, str] = field(default_factory=dict)
    """Name -> what follows `CREATE POLICY name ON table`."""


_WRITE = ("SELECT", "INSERT", "UPDATE")
"""No DELETE: what tenants delete is marked, and workers clear it away."""


def _whole(condition: str) -> str:
    return f"FOR ALL TO {SERVING_ROLE} USING ({condition}) WITH CHECK ({condition})"


_OWN = {"team": _whole(f"team_id = {_CURRENT}")}
_SEEN_BY_ALL = {"platform": f"FOR SELECT TO {SERVING_ROLE} USING ({_CURRENT} = '{PLATFORM}')"}

_RULES = {
    # UPDATE of one column is what locking a row takes; limits are the operator's.
    "teams": Rule(("SELECT", "UPDATE (name)"), {"team": _whole(f"id = {_CURRENT}"), **_SEEN_BY_ALL}),
    "team_usage": Rule(("SELECT",), {**_OWN, **_SEEN_BY_ALL}),
    "jobs": Rule(_WRITE, {**_OWN, **_SEEN_BY_ALL}),
    "datasets": Rule(_WRITE, {**_OWN, **_SEEN_BY_ALL}),
    # The platform's machines, and which of them is kept for which id: everyone is shown them.
    "workers": Rule(("SELECT",)),
    "reservations": Rule(("SELECT",)),
    # A member whose job was deleted is still the sweep's.
    "sweep_members": Rule(
        _WRITE,
        {
            "team": _whole(
                f"EXISTS (SELECT FROM sweeps WHERE sweeps.id = sweep_members.sweep_id AND sweeps.team_id = {_CURRENT})"
            )
        },
    ),
    # Append-only. Refused keys of nobody known belong to no team, and no team reads them.
    "audit_log": Rule(
        ("SELECT", "INSERT"),
        {
            "team": f"FOR SELECT TO {SERVING_ROLE} USING (team_id = {_CURRENT})",
            "append": f"FOR INSERT TO {SERVING_ROLE} WITH CHECK (team_id IS NULL OR team_id = {_CURRENT})",
        },
    ),
}


def rule_of(table: Table) -> Rule | None:
    """The rule of a table; None for one that the serving role has no business with."""
    if table.name in _RULES:
        return _RULES[table.name]
    if "team_id" in table.columns:
        return Rule(_WRITE, _OWN)
    if "job_id" in table.columns:
        # The job's own policy holds in there, too; said here as well, so that the platform's view ends at the jobs.
        owned = f"EXISTS (SELECT FROM jobs WHERE jobs.id = {table.name}.job_id AND jobs.team_id = {_CURRENT})"
        return Rule(_WRITE, {"team": _whole(owned)})
    return None


_MAKE_ROLE = f"""
DO $$ BEGIN
    CREATE ROLE {SERVING_ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

_AUTHENTICATE = """
CREATE OR REPLACE FUNCTION asym_authenticate(keyed text, plain text, secret text)
RETURNS TABLE (key_id text, team_id text, member_id text, key_role text, member_role text, scopes jsonb, state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    match record;
    now timestamptz := clock_timestamp();
BEGIN
    SELECT k.*, m.role AS owner_role, m.removed_at INTO match
    FROM api_keys k JOIN members m ON m.id = k.member_id
    WHERE k.hash = keyed AND k.secret_id IS NOT NULL OR k.hash = plain AND k.secret_id IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    state := CASE WHEN match.revoked_at IS NOT NULL THEN 'revoked'
                  WHEN match.removed_at IS NOT NULL THEN 'removed'
                  WHEN match.expires_at <= now THEN 'expired'
                  ELSE 'live' END;
    IF state = 'live' AND (
        match.last_used_at IS NULL OR match.last_used_at <= now - interval '1 minute'
        OR match.secret_id IS NULL AND keyed IS NOT NULL
    ) THEN
        UPDATE api_keys AS k SET
            last_used_at = CASE WHEN k.last_used_at > now - interval '1 minute' THEN k.last_used_at ELSE now END,
            hash = CASE WHEN k.secret_id IS NULL AND keyed IS NOT NULL THEN keyed ELSE k.hash END,
            secret_id = CASE WHEN k.secret_id IS NULL AND keyed IS NOT NULL THEN secret ELSE k.secret_id END
        WHERE k.id = match.id;
    END IF;
    RETURN QUERY SELECT match.id, match.team_id, match.member_id, match.role, match.owner_role, match.scopes, state;
END $$
"""

_MEMBERSHIPS = """
CREATE OR REPLACE FUNCTION asym_memberships(wanted text)
RETURNS TABLE (team_id text, team_name text, member_id text, member_role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT t.id, t.name, m.id, m.role FROM members m JOIN teams t ON t.id = m.team_id
    WHERE m.login = wanted AND m.removed_at IS NULL ORDER BY t.name
$$
"""

# Planned anew for each call, since the plan depends on how common the entries are; and by bitmaps only: a LIMIT makes
# Postgres hope to meet enough on its way through an index of some order, and in vain it reads every job of the team.
_JOBS_FOUND = """
CREATE OR REPLACE FUNCTION asym_jobs_found(wanted_tags text[], wanted_words text[], wanted_facade jsonb, most integer)
RETURNS SETOF text LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path = {schema}, pg_temp SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
DECLARE
    own text := current_setting('asym.team_id', true);
BEGIN
    RETURN QUERY SELECT j.id FROM jobs j
    WHERE j.team_id = own AND j.deleted_at IS NULL
      AND (wanted_tags IS NULL OR j.tags @> wanted_tags AND j.{tagged})
      AND (wanted_words IS NULL OR j.words @> wanted_words)
      AND (wanted_facade IS NULL OR j.facade @> wanted_facade AND j.facade IS NOT NULL)
    LIMIT most;
END $$
"""

# As whoever calls it, so that the policy of the table holds. One round trip instead of four.
_NOTE = """
CREATE OR REPLACE FUNCTION asym_note(
    team text, key text, member text, address text, action text, object text, status smallint, reason text
) RETURNS void LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
BEGIN
    PERFORM set_config('asym.team_id', coalesce(team, ''), true), set_config('synchronous_commit', 'off', true);
    INSERT INTO audit_log (team_id, key_id, member_id, address, action, object, status, reason)
    VALUES (team, key, member, address, action, object, status, reason);
END $$
"""


_AS_OWNER = (
    "asym_authenticate(text, text, text)",
    "asym_memberships(text)",
    "asym_jobs_found(text[], text[], jsonb, integer)",
)


def enforce(connection: Connection, tables: list[Table]) -> bool:
    """Bring roles, policies and grants of this schema to what this module says. False when the role is missing.

    Needs the tables' owner. Changes only what differs, for a policy locks its table against everyone. Where this user
    may not make roles, an administrator makes `asym_api` and grants it to this user (docs/security.md).
    """
    schema = connection.dialect.identifier_preparer.quote(
        connection.scalar(text("SELECT current_schema()")) or "public"
    )
    connection.execute(text(_AUTHENTICATE.format(schema=schema)))
    connection.execute(text(_NOTE.format(schema=schema)))
    connection.execute(text(_MEMBERSHIPS.format(schema=schema)))
    connection.execute(text(_JOBS_FOUND.format(schema=schema, tagged=TAGGED.text)))
    for function in _AS_OWNER:
        connection.execute(text(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"))
    if not role_is_there(connection):
        return False
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {SERVING_ROLE}",
        *(f"GRANT EXECUTE ON FUNCTION {function} TO {SERVING_ROLE}" for function in _AS_OWNER),
        f"GRANT SELECT ON alembic_version TO {SERVING_ROLE}",
    ):
        connection.execute(text(statement))
    there = _what_is_there(connection)
    for table in tables:
        if table.name in there and (rule := rule_of(table)) is not None:
            _apply(connection, table.name, rule, there[table.name])
    return True


def role_is_there(connection: Connection) -> bool:
    """Make the role, and become a member of it, where that has to be done and may be."""
    known = text(f"SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = '{SERVING_ROLE}'")  # noqa: S608
    is_member = connection.scalar(known)
    if is_member:
        return True
    try:
        with connection.begin_nested():
            if is_member is None:
                connection.execute(text(_MAKE_ROLE))
            connection.execute(text(f"GRANT {SERVING_ROLE} TO CURRENT_USER"))
    except DBAPIError as error:
        _log.warning("the role %s cannot be made or taken on: %s", SERVING_ROLE, str(error.orig).partition("\n")[0])
        return False
    return True


def _what_is_there(connection: Connection) -> dict[str, dict[str, bool]]:
    """Table -> whether row-level security is on under "", and the names of its policies."""
    rows = connection.execute(
        text(
            "SELECT c.relname, c.relrowsecurity, "
            "       coalesce(array_agg(p.polname::text) FILTER (WHERE p.polname IS NOT NULL), '{}') "
            "FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid "
            "WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind IN ('r', 'p') "
            "GROUP BY c.oid"
        )
    )
    return {name: {"": secured, **dict.fromkeys(policies, True)} for name, secured, policies in rows}


def _apply(connection: Connection, table: str, rule: Rule, there: dict[str, bool]) -> None:
    # The name tells what the policy says, so that a changed one is another one.
    wanted = {
        f"{name}_{hashlib.sha256(words.encode()).hexdigest()[:8]}": words for name, words in rule.policies.items()
    }
    statements = [f"DROP POLICY {name} ON {table}" for name in there if name and name not in wanted]
    if rule.policies and not there[""]:
        statements.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    statements += [f"CREATE POLICY {name} ON {table} {words}" for name, words in wanted.items() if name not in there]
    statements.append(f"REVOKE ALL ON {table} FROM {SERVING_ROLE}")
    statements.append(f"GRANT {', '.join(rule.grants)} ON {table} TO {SERVING_ROLE}")
    for statement in statements:
        connection.execute(text(statement))


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:8]
