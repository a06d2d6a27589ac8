"""The connection pool and the one owner of transactions."""

import json
import logging
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import psycopg
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from store import tenancy
from store.errors import SettingsError

_log = logging.getLogger(__name__)

STATEMENT_TIMEOUT_MS = 60_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
CONNECT_ARGUMENTS: dict[str, int | str] = {
    "connect_timeout": 5,
    # A server that vanished without a word is noticed after about 25 s instead of two hours.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "asym",
    "options": (
        f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
    ),
}


def sqlalchemy_url(url: str) -> URL:
    """`postgresql://...` as everybody writes it, with the driver that SQLAlchemy shall use (psycopg 3)."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a ValueError for a port that is no number
        # Without the value, which may hold a password.
        raise SettingsError(
            "ASYM_DATABASE_URL: not an address; it looks like postgresql://user:password@host:5432/database"
        ) from None
    if parsed.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise SettingsError(f"ASYM_DATABASE_URL: Asym needs PostgreSQL (postgresql://...), not {parsed.drivername}://")
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """The same address as libpq and plain psycopg want it."""
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


_NOTIFICATIONS = "store.notifications"
_NOTIFY = text(
    "SELECT pg_notify(channel, payload) "
    "FROM unnest(CAST(:channels AS text[]), CAST(:payloads AS text[])) AS notification (channel, payload)"
)


def notify_after_commit(session: Session, channel: str, payload: str) -> None:
    """Send a Postgres notification once this transaction is committed; the same one twice is sent once.

    After the commit and not with it: Postgres lets only one transaction that notifies commit at a time, so claims and
    batches of metrics would wait for each other's fsync. A process that dies in between loses the notification, which
    listeners allow for by looking on their own from time to time.
    """
    session.info.setdefault(_NOTIFICATIONS, {})[channel, payload] = None


def _notify(connection: Connection, notifications: list[tuple[str, str]]) -> None:
    channels, payloads = zip(*notifications, strict=True)
    try:
        connection.execute(_NOTIFY, {"channels": list(channels), "payloads": list(payloads)})
    except OperationalError as error:
        # The transaction is committed: the caller must not take it for failed.
        _log.warning("could not notify listeners of what was committed: %s", error)


_ALONE = "store.alone"


@contextmanager
def revocable(session: Session) -> Iterator[Callable[[], None]]:
    """A part of what a session does that can be taken back, by calling what the block is given.

    Within a transaction that is a savepoint; in a session of `Database.statements` the block is a transaction.
    """
    if not session.info.get(_ALONE):
        with session.begin_nested() as savepoint:
            yield savepoint.rollback
        return
    connection = session.connection()
    end = "COMMIT"

    def take_back() -> None:
        nonlocal end
        end = "ROLLBACK"

    connection.exec_driver_sql("BEGIN")
    try:
        yield take_back
    except BaseException:
        # Not by a statement: the connection may be what is broken. What is not committed goes with its return.
        session.rollback()
        raise
    connection.exec_driver_sql(end)


_SERVING = "store.serving"


def _take_on_the_role(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute(f"SET ROLE {tenancy.SERVING_ROLE}")
        record.info[_SERVING] = True
    except psycopg.Error as error:
        if _SERVING not in record.info:
            _log.warning("row-level security is not in force (run `asym migrate`; docs/security.md): %s", error)
        record.info[_SERVING] = False


def _try_the_role_again(
    connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    # The connection may be older than the role.
    if not record.info.get(_SERVING):
        _take_on_the_role(connection, record)


_LOOKED_AT = "store.looked_at"
_TRUSTED_SECONDS = 5.0
"""For so long a connection that was there is taken to be there, unless the server has said something."""


def _is_there(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Asked of every connection that is taken out of the pool. A server that stops, or ends a connection, says so, and
    then there is something to read; so a round trip is only made of one that was not used for a while."""
    now = time.monotonic()
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0) or now - record.info.get(_LOOKED_AT, 0.0) > _TRUSTED_SECONDS:
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute("")
        except psycopg.Error as error:
            raise InvalidatePoolError(str(error)) from error
    record.info[_LOOKED_AT] = now


class Database:
    """One pool of connections. Safe to share between threads; make a new one after a fork."""

    def __init__(
        self,
        url: str,
        pool_size: int = 5,
        *,
        idle_seconds: float | None = None,
        statement_seconds: float | None = None,
        for_tenants: bool = False,
    ) -> None:
        """`idle_seconds`: how long a transaction of ours may stand still before the server ends it and frees the rows
        that it has locked. A worker's must be shorter than its lease: one that is frozen in the middle of a transaction
        would keep its jobs from being taken away.

        `statement_seconds`: how long a statement may take, where that is less than for others.

        `for_tenants`: connections take on the serving role and transactions see the current team only (store.tenancy).
        Where there is no such role, which is logged, they go on as the user of the address, who may see everything.
        """
        self._for_tenants = for_tenants
        arguments = dict(CONNECT_ARGUMENTS)
        if idle_seconds is not None:
            timeout = max(1, round(idle_seconds * 1000))
            arguments["options"] = f"{arguments['options']} -c idle_in_transaction_session_timeout={timeout}"
        if statement_seconds is not None:
            timeout = max(1, min(round(statement_seconds * 1000), STATEMENT_TIMEOUT_MS))
            arguments["options"] = f"{arguments['options']} -c statement_timeout={timeout}"
        self._engine = create_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            # `transaction` says BEGIN itself, and more in the same round trip.
            isolation_level="AUTOCOMMIT",
            connect_args=arguments,
            # NaN is not JSON: refuse it here rather than let Postgres do so in the middle of a batch.
            json_serializer=partial(json.dumps, allow_nan=False, separators=(",", ":")),
        )
        event.listen(self._engine, "checkout", _is_there)
        if for_tenants:
            event.listen(self._engine, "connect", _take_on_the_role)
            event.listen(self._engine, "checkout", _try_the_role_again)
        # Rows stay readable after the commit, without a hidden query.
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[Session]:
        """A Session that commits at the end of the block and rolls back when the block raises.

        `snapshot`: every statement sees what was committed before the first one, so that reads fit each other.
        """
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ" if snapshot else "BEGIN"
        with self._engine.connect() as connection:
            with self._sessions(bind=connection) as session, session.begin():
                if self._for_tenants:
                    begin += f"; {tenancy.enter(session)}"
                session.connection().exec_driver_sql(begin, execution_options={"no_parameters": True})
                yield session
            if notifications := session.info.get(_NOTIFICATIONS):
                _notify(connection, list(notifications))

    @contextmanager
    def statements(self) -> Iterator[Session]:
        """A Session in which each statement is a transaction of its own: one round trip, and locks that last no longer
        than it. On connections for tenants it sees no team's rows: so it is found out whose request this is."""
        with self._engine.connect() as connection:
            with self._sessions(bind=connection, info={_ALONE: True}) as session:
                yield session
            if notifications := session.info.get(_NOTIFICATIONS):
                _notify(connection, list(notifications))

    def ping(self) -> None:
        """One round trip. sqlalchemy.exc.OperationalError when the database is away."""
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close every idle connection."""
        self._engine.dispose()
