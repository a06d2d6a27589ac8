"""What is new of a job, read from the database once however many streams watch it: its events, its log.

Of each topic a watched job has one `Feed`. Woken by the listener (`api.listener`), at the latest by the clock, it reads
what is new and offers it to every subscriber's bounded backlog. A subscriber whose backlog is full lags, and reads from
the database itself until it has caught up; so nobody misses an event, nobody holds a connection while waiting, and
memory is bounded. Readers who do not read at all are dropped by the response (`api.events.stream`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread

from api.events.stream import HEARTBEAT, HEARTBEAT_SECONDS, message
from api.problems import DATABASE_AWAY

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
LOOK_SECONDS = 5.0
LONGEST_LOOK_SECONDS = 60.0
"""A feed that was not woken for so long looks on its own; each time in vain it waits twice as long, so that thousands
of jobs that stand still cost nothing."""
PAGE = 500
BACKLOG = 32
"""How many batches of new events may wait for one subscriber before it counts as lagging."""
READERS = 4
"""How many threads read for all the feeds together: streams never take the database from the other routes."""
AT_ONCE = 16
"""How many streams are woken before everything else that waits has its turn. A request comes back to the event loop
half a dozen times; behind thousands of streams that all write at once it would wait for all of them each time."""


@dataclass(frozen=True)
class StreamedEvent:
    id: int
    wire: bytes
    """The event as the message that every stream sends."""


@dataclass(frozen=True)
class News:
    """What followed some event. `ended`: the job's last status, if nothing will ever follow these events."""

    events: Sequence[StreamedEvent]
    ended: str | None


Read = Callable[[int, int], News]
"""(after, limit) -> what follows the event with id `after`; blocking, one short transaction."""


@dataclass(eq=False)
class Subscription:
    """One stream's place at a feed."""

    batches: list[News] = field(default_factory=list)
    lagging: bool = True
    """The database has to be read before `batches`: at first, and whenever a batch found no room."""
    closed: bool = False
    """Nothing more will come: the server stops, or the job cannot be read any more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, news: News) -> None:
        if len(self.batches) >= BACKLOG:
            self.lagging = True
        else:
            self.batches.append(news)
        self.changed.set()

    def close(self) -> None:
        self.closed = True
        self.changed.set()

    def start_over(self) -> None:
        """From here on `batches` holds everything that the database does not tell yet."""
        self.lagging = False
        self.batches.clear()

    def take(self) -> list[News]:
        taken, self.batches = self.batches, []
        return taken

    async def wait(self, seconds: float) -> bool:
        """Whether something changed within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return False
        self.changed.clear()
        return True


class Feed:
    """One job's new events, for all who watch it."""

    def __init__(self, read: Read, limiter: CapacityLimiter, turn: asyncio.Lock) -> None:
        self._read = read
        self._limiter = limiter
        self._turn = turn
        self._woken = asyncio.Event()
        self._stopped = False
        self.task: asyncio.Task[None] | None = None
        self.subscriptions: set[Subscription] = set()

    def wake(self) -> None:
        self._woken.set()

    def start(self, after: int) -> None:
        """Go on from the event `after`, which the first subscriber to catch up has reached."""
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run(after))

    def stop(self) -> None:
        """Read no more. A read that is under way, in a thread, is waited for by `task`: nothing can cancel it."""
        self._stopped = True
        self._woken.set()

    async def read(self, after: int) -> News:
        return await to_thread.run_sync(self._read, after, PAGE, limiter=self._limiter)

    async def _wake_up(self, seconds: float) -> None:
        # A notification is sent after the commit and may be lost with its sender, or with the listener's connection.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _run(self, after: int) -> None:
        ended = False
        patience = LOOK_SECONDS
        try:
            while not ended:
                await self._wake_up(patience)
                if self._stopped:
                    return
                try:
                    news = await self.read(after)
                except DATABASE_AWAY as error:
                    logger.warning("event feed: the database does not answer: %s", str(error).partition("\n")[0])
                    await asyncio.sleep(RETRY_SECONDS)
                    self._woken.set()
                    continue
                ended = news.ended is not None
                patience = LOOK_SECONDS if news.events else min(2 * patience, LONGEST_LOOK_SECONDS)
                if news.events:
                    after = news.events[-1].id
                if len(news.events) == PAGE:
                    self._woken.set()  # there may be more
                if news.events or ended:
                    await self._offer(news)
        finally:
            if not ended:
                # An error, which asyncio reports: end the streams, rather than let them wait for nothing.
                for subscription in self.subscriptions:
                    subscription.close()

    async def _offer(self, news: News) -> None:
        async with self._turn:
            # Whoever comes from now on reads it from the database.
            for number, subscription in enumerate(list(self.subscriptions), start=1):
                subscription.offer(news)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)


class Feeds:
    """The feeds of all jobs that are watched through this process. Used from the event loop only."""

    def __init__(self) -> None:
        self._feeds: dict[str, dict[str, Feed]] = {}
        """By job and topic."""
        self._limiter = CapacityLimiter(READERS)
        self._turn = asyncio.Lock()
        """Of the feed that wakes its streams."""
        self._closed = False
        self._retiring: set[asyncio.Task[None]] = set()
        self.heard = 0
        """Grows with whatever this process hears to have happened to any job."""
        self.streams = 0
        """How many are open."""

    def wake(self, job_id: str) -> None:
        """Something was committed for this job."""
        self.heard += 1
        for feed in self._feeds.get(job_id, {}).values():
            feed.wake()

    def wake_all(self) -> None:
        """Anything may have been committed, for any job."""
        self.heard += 1
        for feed in self._all():
            feed.wake()

    def close(self) -> None:
        """End every stream, those opened from now on too."""
        self._closed = True
        for feed in self._all():
            for subscription in feed.subscriptions:
                subscription.close()

    async def wait_closed(self) -> None:
        """Until no feed of a stream that has ended uses the database any more."""
        while self._retiring:
            await asyncio.wait(self._retiring)

    def _all(self) -> list[Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds.values()]

    @contextmanager
    def _subscribed(self, job_id: str, topic: str, read: Read) -> Iterator[tuple[Feed, Subscription]]:
        feeds = self._feeds.setdefault(job_id, {})
        feed = feeds.setdefault(topic, Feed(read, self._limiter, self._turn))
        self.streams += 1
        subscription = Subscription(closed=self._closed)
        feed.subscriptions.add(subscription)
        try:
            yield feed, subscription
        finally:
            self.streams -= 1
            feed.subscriptions.discard(subscription)
            if not feed.subscriptions:
                del feeds[topic]
                if not feeds:
                    del self._feeds[job_id]
                feed.stop()
                if feed.task is not None:
                    self._retiring.add(feed.task)
                    feed.task.add_done_callback(self._retiring.discard)

    async def follow(self, job_id: str, read: Read, after: int, topic: str = "events") -> AsyncGenerator[bytes, None]:
        """What `read` gives after `after` as messages, each once and in order, until the job has ended.

        topic: what of the job is read. All readers of one topic of a job are given what one `read` has read, so it
        must give everyone the same.
        """
        with self._subscribed(job_id, topic, read) as (feed, subscription):
            yield HEARTBEAT  # the reader learns at once that it is connected
            while not subscription.closed:
                if subscription.lagging:
                    subscription.start_over()
                    try:
                        news = await feed.read(after)
                    except DATABASE_AWAY:
                        subscription.lagging = True
                        yield HEARTBEAT
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
                    # A full page: there may be more.
                    subscription.lagging |= len(news.events) == PAGE
                    arrived = [news]
                elif not (arrived := subscription.take()):
                    feed.start(after)
                    if not await subscription.wait(HEARTBEAT_SECONDS):
                        yield HEARTBEAT
                    continue
                for news in arrived:
                    for event in news.events:
                        if event.id > after:
                            yield event.wire
                            after = event.id
                    if news.ended is not None:
                        yield message({"status": news.ended}, event="end")
                        return
