"""Wakes the event feeds: one database connection per API process, whatever the number of streams."""

import asyncio
import logging

import psycopg

from api.events.feed import Feeds
from store.notifications import job_changes

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


async def listen(database_url: str, feeds: Feeds) -> None:
    """Run until cancelled; the database may be away at the start and at any time later."""
    away = False
    while True:
        try:
            async for job_id in job_changes(database_url):
                if job_id is not None:
                    feeds.wake(job_id)
                    continue
                # It listens only now: whatever was announced before went unheard.
                feeds.wake_all()
                if away:
                    logger.info("event listener: the database is back")
                    away = False
        except psycopg.OperationalError as error:
            if not away:
                logger.warning("event listener: the database does not answer: %s", str(error).partition("\n")[0])
                away = True
        await asyncio.sleep(RECONNECT_SECONDS)
