"""Listening to what is announced of what was committed: jobs whose history has grown, requests whose answers have."""

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from store.database import CONNECT_ARGUMENTS, libpq_url
from store.samplers import REQUESTS_CHANNEL


class Announced(NamedTuple):
    channel: str
    id: str
    """Of a job whose history has grown (journal.JOBS_CHANNEL), of a request whose answer has
    (sampling_ends.ANSWERS_CHANNEL)."""


async def announcements(database_url: str, channels: Iterable[str]) -> AsyncIterator[Announced | None]:
    """Yields None once, when it listens to all of the channels, and then whatever is announced on any of them.

    One connection serves any number of readers of one process. psycopg.OperationalError when the connection breaks:
    the caller listens again, and treats everything as changed since it may have missed something.
    """
    connection = await psycopg.AsyncConnection.connect(_address(database_url), autocommit=True)
    async with connection:
        for channel in channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield None
        async for notification in connection.notifies():
            yield Announced(notification.channel, notification.payload)


class RequestListener:
    """A worker's ear for one sampler's requests. psycopg.OperationalError when the database is away."""

    def __init__(self, database_url: str, sampler_id: str) -> None:
        self._sampler_id = sampler_id
        self._connection = psycopg.connect(_address(database_url), autocommit=True)
        self._connection.execute(f"LISTEN {REQUESTS_CHANNEL}")

    def wait(self, seconds: float) -> None:
        """Until there is something to look at, at most so long."""
        for notification in self._connection.notifies(timeout=seconds):
            if notification.payload == self._sampler_id:
                return

    def close(self) -> None:
        self._connection.close()


def _address(database_url: str) -> str:
    # It only ever waits: without the keepalives it would wait for a server that is long gone.
    return make_conninfo(libpq_url(database_url), **CONNECT_ARGUMENTS | {"application_name": "asym-listener"})
