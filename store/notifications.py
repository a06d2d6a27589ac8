"""Listening to what is announced of what was committed: jobs whose history has grown, requests whose answers have."""

from collections.abc import AsyncIterator

import psycopg
from psycopg.conninfo import make_conninfo

from store.database import CONNECT_ARGUMENTS, libpq_url
from store.journal import CHANNEL
from store.samplers import REQUESTS_CHANNEL
from store.sampling_ends import ANSWERS_CHANNEL


def job_changes(database_url: str) -> AsyncIterator[str | None]:
    """Yields None once, when it listens, and then the id of each job that has something new.

    One connection serves any number of readers of one process. psycopg.OperationalError when the connection breaks:
    the caller listens again, and treats every job as changed since it may have missed something.
    """
    return _announced(database_url, CHANNEL)


def answer_changes(database_url: str) -> AsyncIterator[str | None]:
    """The same for requests to sample: the id of each whose answer has grown."""
    return _announced(database_url, ANSWERS_CHANNEL)


async def _announced(database_url: str, channel: str) -> AsyncIterator[str | None]:
    connection = await psycopg.AsyncConnection.connect(_address(database_url), autocommit=True)
    async with connection:
        await connection.execute(f"LISTEN {channel}")
        yield None
        async for notification in connection.notifies():
            yield notification.payload


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
