"""Wakes the event feeds and those who wait for samplers' answers: one database connection per API process, whatever the
number of streams."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

import psycopg

from store.notifications import announcements

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


class Woken(Protocol):
    """Who waits for what one channel tells of."""

    def wake(self, changed_id: str, /) -> None: ...
    def wake_all(self) -> None: ...


async def listen(database_url: str, woken: Mapping[str, Woken]) -> None:
    """Run until cancelled; the database may be away at the start and at any time later.

    woken: by channel.
    """
    away = False
    while True:
        try:
            async for announced in announcements(database_url, woken):
                if announced is not None:
                    woken[announced.channel].wake(announced.id)
                    continue
                # It listens only now: whatever was announced before went unheard.
                for each in woken.values():
                    each.wake_all()
                if away:
                    logger.info("listener: the database is back")
                    away = False
        except psycopg.OperationalError as error:
            if not away:
                logger.warning("listener: the database does not answer: %s", str(error).partition("\n")[0])
                away = True
        await asyncio.sleep(RECONNECT_SECONDS)
