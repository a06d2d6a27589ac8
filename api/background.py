"""What the API does beside answering: listening for news of jobs, sweeping, and telling webhooks.

The named boundary for whatever goes wrong there: an unforeseen error is logged with its traceback and the task starts
again, for without it streams would fall silent, or dead workers would keep their jobs.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from api.problems import DATABASE_AWAY
from api.state import ApiState
from store import audit
from store.sweeper import SweepResult, sweep
from store.webhooks import turns

logger = logging.getLogger(__name__)

RESTART_SECONDS = 5.0

Result = TypeVar("Result")


@asynccontextmanager
async def running(name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """`work` runs while the block does, started again if it must be; at the end it is cancelled and waited for."""
    # A plain task: it is cancelled once, and may then close its connection. A task group would cancel that as well.
    task = asyncio.create_task(_kept_running(name, work), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _kept_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s failed; it starts again in %g s", name, RESTART_SECONDS)
        await asyncio.sleep(RESTART_SECONDS)


async def sweep_regularly(state: ApiState) -> None:
    """Take jobs from workers that no longer renew, and ring while jobs wait: no worker may be left to do it."""
    settings = state.settings
    pause = settings.sweep_seconds
    while True:
        await asyncio.sleep(pause)
        try:
            result = await to_its_end(partial(_sweep_once, state))
        except DATABASE_AWAY as error:
            # While the database was away nobody could renew: everyone gets a whole lease to come back.
            logger.warning("sweeper: the database does not answer: %s", str(error).partition("\n")[0])
            pause = max(settings.lease_seconds, settings.sweep_seconds)
            continue
        pause = settings.sweep_seconds
        for job_id in result.expired:
            logger.warning("sweeper: %s was taken from a worker that did not renew its lease", job_id)


async def to_its_end(call: Callable[[], Result], limiter: CapacityLimiter | None = None) -> Result:
    """`call` in a thread; when cancelled, only after it has returned, for until then it uses the database."""
    calling = asyncio.ensure_future(to_thread.run_sync(call, limiter=limiter))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.wait([calling])
        raise


def _sweep_once(state: ApiState) -> SweepResult:
    asked_at = time.monotonic()
    with state.platform.transaction() as session:
        result = sweep(session, state.settings.lease_seconds, state.settings.policy, asked_at=asked_at)
    if result.queued:
        state.ring()
    with state.platform.transaction() as session:
        if pruned := audit.prune(session, state.settings.audit_days):
            logger.info(
                "sweeper: %d entries of the audit log were older than %d days", pruned, state.settings.audit_days
            )
    with state.platform.transaction() as session:
        turns.prune(session)
    return result
