"""What time it is, and how to wait: the one door through which the SDK does either, so that a test can hold it."""

import asyncio
import time
from datetime import UTC, datetime


class _Time:
    def monotonic(self) -> float:
        """Seconds, for telling how long something takes."""
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


class Clock(_Time):
    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class AsyncClock(_Time):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
