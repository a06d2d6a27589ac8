"""Listening to what store.journal announces: ids of jobs whose history has grown."""

from collections.abc import AsyncIterator

import psycopg
from psycopg.conninfo import make_conninfo

from store.database import CONNECT_ARGUMENTS, libpq_url
from store.journal import CHANNEL


async def job_changes(database_url: str) -> AsyncIterator[str | None]:
    """Yields None once, when it listens, and then the id of each job that has something new.

    One connection serves any number of readers of one process. psycopg.OperationalError when the connection breaks:
    the caller listens again, and treats every job as changed since it may have missed something.
    """
    # It only ever waits: without the keepalives it would wait for a server that is long gone.
    address = make_conninfo(libpq_url(database_url), **CONNECT_ARGUMENTS | {"application_name": "asym-listener"})
    connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield None
        async for notification in connection.notifies():
            yield notification.payload
