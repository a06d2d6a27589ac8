"""The fan-out of new events: each subscriber gets each event once, in order, whatever the others do."""

import asyncio
import threading
from collections import Counter

from sqlalchemy.exc import OperationalError

from api.events import feed
from api.events.feed import Feeds, News, StreamedEvent
from api.events.stream import HEARTBEAT


class Journal:
    """A job's events, kept in memory, and how often they were read."""

    def __init__(self):
        self._lock = threading.Lock()  # several threads read at once
        self.count = 0
        self.ended = None
        self.reads = Counter()
        self.told = 0
        self.away = False

    def read(self, after, limit):
        with self._lock:
            self.reads[after] += 1
        if self.away:
            raise OperationalError("select", {}, Exception("away"))
        ids = range(after + 1, min(after + limit, self.count) + 1)
        self.told = max(self.told, *ids, 0)
        events = [StreamedEvent(id, b"%d" % id) for id in ids]
        return News(events, self.ended if after + len(events) == self.count else None)


async def collect(feeds, journal, after=0, pace=None):
    got = []
    async for message in feeds.follow("job", journal.read, after):
        if message != HEARTBEAT:
            got.append(message)
        if pace is not None:
            await pace()
    return got


def expected(start, end):
    return [b"%d" % id for id in range(start + 1, end + 1)] + [b'event: end\ndata: {"status":"succeeded"}\n\n']


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other threads
            await asyncio.sleep(0.001)


def started(feeds):
    """Whether some subscriber has caught up, so that the feed reads from there on."""
    return "job" in feeds._feeds and feeds._feeds["job"]["events"].task is not None


def test_every_subscriber_gets_every_event_and_new_ones_are_read_once():
    async def scenario():
        feeds, journal = Feeds(), Journal()
        journal.count = 3
        readers = [asyncio.create_task(collect(feeds, journal)) for _ in range(50)]
        late = asyncio.create_task(collect(feeds, journal, after=2))
        await until(lambda: journal.reads[0] == 50 and journal.reads[2] == 1 and started(feeds))
        for count in range(4, 30):
            journal.count = count
            feeds.wake("job")
            await until(lambda count=count: journal.told == count)
        journal.ended = "succeeded"
        feeds.wake("job")
        assert await asyncio.gather(*readers) == [expected(0, 29)] * 50
        assert await late == expected(2, 29)
        # One read for all 51 streams each time something was new, but for those who were still catching up at first.
        assert all(journal.reads[after] == 1 for after in range(4, 29))
        await feeds.wait_closed()
        assert feeds._feeds == {}

    asyncio.run(scenario())


def test_a_job_that_has_ended_is_told_whole_and_the_stream_ends():
    async def scenario():
        feeds, journal = Feeds(), Journal()
        journal.count, journal.ended = 2 * feed.PAGE + 7, "succeeded"
        assert await collect(feeds, journal) == expected(0, journal.count)
        assert await collect(feeds, journal, after=journal.count) == expected(journal.count, journal.count)

    asyncio.run(scenario())


def test_a_slow_subscriber_loses_nothing_and_holds_a_bounded_backlog():
    async def scenario():
        feeds, journal = Feeds(), Journal()
        gate = asyncio.Event()
        slow = asyncio.create_task(collect(feeds, journal, pace=gate.wait))
        quick = asyncio.create_task(collect(feeds, journal))
        await until(lambda: started(feeds))
        for count in range(1, 3 * feed.BACKLOG):
            journal.count = count
            feeds.wake("job")
            await until(lambda count=count: journal.told == count)
        assert max(len(each.batches) for each in feeds._feeds["job"]["events"].subscriptions) <= feed.BACKLOG
        journal.ended = "succeeded"
        feeds.wake("job")
        assert await quick == expected(0, journal.count)
        gate.set()
        assert await slow == expected(0, journal.count)

    asyncio.run(scenario())


def test_a_database_that_is_away_delays_and_loses_nothing(monkeypatch):
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.001)

    async def scenario():
        feeds, journal = Feeds(), Journal()
        reader = asyncio.create_task(collect(feeds, journal))
        await until(lambda: started(feeds))
        journal.away, journal.count = True, 5
        feeds.wake("job")
        newcomer = asyncio.create_task(collect(feeds, journal, after=1))
        await until(lambda: journal.reads[0] > 5 and journal.reads[1] > 5)
        journal.away, journal.ended = False, "succeeded"
        assert await reader == expected(0, 5)
        assert await newcomer == expected(1, 5)

    asyncio.run(scenario())


def test_news_that_nobody_announced_is_found_all_the_same(monkeypatch):
    monkeypatch.setattr(feed, "LOOK_SECONDS", 0.01)

    async def scenario():
        feeds, journal = Feeds(), Journal()
        reader = asyncio.create_task(collect(feeds, journal))
        await until(lambda: started(feeds))
        journal.count, journal.ended = 3, "succeeded"
        assert await reader == expected(0, 3)

    asyncio.run(scenario())


def test_a_quiet_stream_is_kept_alive_and_closing_ends_it(monkeypatch):
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.001)

    async def scenario():
        feeds, journal = Feeds(), Journal()
        beats = 0
        async for message in feeds.follow("job", journal.read, 0):
            assert message == HEARTBEAT
            beats += 1
            if beats == 5:
                feeds.close()
        assert beats == 5
        assert [message async for message in feeds.follow("job", journal.read, 0)] == [HEARTBEAT]

    asyncio.run(scenario())


def test_an_unforeseen_error_of_a_read_ends_the_streams():
    async def scenario():
        feeds, journal = Feeds(), Journal()
        reader = asyncio.create_task(collect(feeds, journal))
        await until(lambda: started(feeds))
        del journal.count
        feeds.wake("job")
        assert await reader == []

    asyncio.run(scenario())


def test_many_streams_are_woken_a_few_at_a_time():
    """Whatever else the event loop has to do has its turn in between."""

    async def scenario():
        feeds, journal, woken = Feeds(), Journal(), 0
        most_at_once, many = 0, 10 * feed.AT_ONCE

        async def watch():
            nonlocal woken
            async for message in feeds.follow("job", journal.read, 0):
                if message != HEARTBEAT:
                    woken += 1

        watchers = [asyncio.create_task(watch()) for _ in range(many)]
        await until(lambda: feeds.streams == many and started(feeds))
        # All have caught up, and wait.
        await until(lambda: all(each.changed._waiters for each in feeds._feeds["job"]["events"].subscriptions))
        journal.count = 1
        feeds.wake("job")
        async with asyncio.timeout(10):
            while woken < many:
                before = woken
                await asyncio.sleep(0)
                most_at_once = max(most_at_once, woken - before)
        assert 0 < most_at_once <= feed.AT_ONCE
        feeds.close()
        await asyncio.gather(*watchers)
        await feeds.wait_closed()

    asyncio.run(scenario())
