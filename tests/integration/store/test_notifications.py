"""Whoever listens hears of every job whose history grew, once that is committed, and of a broken connection."""

import asyncio
import contextlib

import psycopg
import pytest
from sqlalchemy import text

from store import jobs, leases
from store.database import notify_after_commit
from store.journal import JOBS_CHANNEL
from store.notifications import Announced, announcements
from store.sampling_ends import ANSWERS_CHANNEL

CHANNELS = (JOBS_CHANNEL, ANSWERS_CHANNEL)


def listen(database_url, act, expected):
    """Listen, call `act` in a thread once listening, and return the first `expected` announcements."""

    async def run():
        heard = []
        async with contextlib.aclosing(announcements(database_url, CHANNELS)) as changes, asyncio.timeout(30):
            assert await anext(changes) is None
            acting = asyncio.create_task(asyncio.to_thread(act))
            while len(heard) < expected:
                heard.append(await anext(changes))
            await acting
        return heard

    return asyncio.run(run())


def test_what_changes_a_jobs_history_is_heard(database, database_url, identity, queue_job, claim):
    def act():
        queue_job()
        claimed = claim()
        with database.transaction() as session:
            leases.record(session, claimed.job_id, claimed.attempt, [], ["line"], batch=1)
        with database.transaction() as session:
            jobs.request_cancel(session, identity, claimed.job_id)
        with database.transaction() as session:
            leases.release(session, claimed.job_id, claimed.attempt, crashed=False)

    heard = listen(database_url, act, 5)
    assert len(set(heard)) == 1
    assert heard[0].channel == JOBS_CHANNEL
    assert heard[0].id.startswith("job_")


def test_one_connection_hears_all_channels_in_the_order_of_the_commits(database, database_url):
    told = [(ANSWERS_CHANNEL, "answer"), (JOBS_CHANNEL, "job"), (ANSWERS_CHANNEL, "another")]

    def act():
        for channel, changed_id in told:
            with database.transaction() as session:
                notify_after_commit(session, channel, changed_id)

    assert listen(database_url, act, 3) == [Announced(*each) for each in told]


def test_what_was_rolled_back_is_not_heard(database, database_url, identity, queue_job):
    rolled_back = queue_job()

    def act():
        with contextlib.suppress(ZeroDivisionError), database.transaction() as session:
            jobs.request_pause(session, identity, rolled_back)
            raise ZeroDivisionError
        queue_job()

    assert listen(database_url, act, 1) != [Announced(JOBS_CHANNEL, rolled_back)]


def test_a_renewal_is_not_news(database, database_url, running, queue_job):
    def act():
        with database.transaction() as session:
            leases.renew(session, running.job_id, running.attempt, 60)
        queue_job()

    assert listen(database_url, act, 1) != [Announced(JOBS_CHANNEL, running.job_id)]


def test_a_broken_connection_is_told(database, database_url):
    def act():
        with database.transaction() as session:
            session.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'asym-listener'")
            )

    with pytest.raises(psycopg.OperationalError):
        listen(database_url, act, 1)


def test_the_listening_connection_notices_a_server_that_vanished(database_url):
    """The parameters themselves, as libpq has them: a vanished host cannot be had on one machine."""

    async def run():
        opened = []
        connect = psycopg.AsyncConnection.connect

        async def remember(*arguments, **named):
            opened.append(await connect(*arguments, **named))
            return opened[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psycopg.AsyncConnection, "connect", remember)
            async with contextlib.aclosing(announcements(database_url, CHANNELS)) as changes:
                await anext(changes)
                return opened[0].info.get_parameters()

    found = asyncio.run(run())
    assert (found["keepalives_idle"], found["tcp_user_timeout"]) == ("10", "25000")
    assert found["application_name"] == "asym-listener"
