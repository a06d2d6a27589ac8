"""Answers of samplers as they grow, for whoever waits for them, woken by the process's one listener (`api.listener`).

A reader that was not woken looks by the clock, for a notification may be lost. Nobody holds a connection while waiting,
and a few threads read for all, so that thousands who wait take the database from nobody.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from anyio import CapacityLimiter, to_thread

from api.problems import DATABASE_AWAY, Problem
from store.sampling import Answer, SamplingStatus

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
READERS = 4
RETRY_AFTER_SECONDS = 5
PAGE = 500

Read = Callable[[int, int], Answer]
"""(after, limit) -> what follows part `after`; blocking, one short transaction."""


class AnswerWatch:
    """Used from the event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}
        self._limiter = CapacityLimiter(READERS)
        self._closed = False

    def wake(self, sampling_id: str) -> None:
        if (event := self._waiting.get(sampling_id)) is not None:
            event.set()

    def wake_all(self) -> None:
        for event in self._waiting.values():
            event.set()

    def close(self) -> None:
        """The server stops: every answer that is not there ends with an error."""
        self._closed = True
        self.wake_all()

    async def follow(
        self,
        sampling_id: str,
        read: Read,
        *,
        is_gone: Callable[[], Awaitable[bool]],
        why_it_waits: Callable[[], str | None],
        wait_seconds: float,
    ) -> AsyncGenerator[Answer | None, None]:
        """The parts of an answer, each once and in order, at last the one with its usage; None now and then while there
        is nothing new. It ends early when `is_gone` says that nobody reads any more.

        Problem: the request failed; or nothing of the answer was there after `wait_seconds`."""
        event = self._waiting.setdefault(sampling_id, asyncio.Event())
        after, begun, started = -1, False, time.monotonic()
        try:
            while not await is_gone():
                event.clear()
                try:
                    answer = await to_thread.run_sync(read, after, PAGE, limiter=self._limiter)
                except DATABASE_AWAY as error:
                    logger.warning("an answer cannot be read: %s", str(error).partition("\n")[0])
                    answer = None
                if self._closed:
                    raise _unavailable("stopping", "this server stops: send the request again")
                if answer is not None:
                    if answer.parts:
                        begun, after = True, answer.parts[-1].number
                        yield answer
                        if len(answer.parts) == PAGE:
                            continue
                    if answer.status in (SamplingStatus.FAILED, SamplingStatus.CANCELLED):
                        raise problem_of(answer.error)
                    if answer.status is SamplingStatus.DONE:
                        if not answer.parts:
                            yield answer
                        return
                left = wait_seconds - (time.monotonic() - started)
                if not begun and left <= 0:
                    reason = await to_thread.run_sync(why_it_waits, limiter=self._limiter)
                    raise _unavailable(
                        "no_sampler",
                        f"nothing samples from the model within {wait_seconds:g} s: "
                        f"{reason or 'it takes longer than that'}; try again later",
                    )
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS if begun else min(LOOK_SECONDS, left)):
                        await event.wait()
                        continue
                yield None
        finally:
            del self._waiting[sampling_id]


def problem_of(error: dict[str, object] | None) -> Problem:
    """What a request that failed is answered."""
    if error is None:
        return _unavailable("cancelled", "the request was cancelled")
    code, message, field = str(error["code"]), str(error["message"]), error.get("field")
    if code in ("model_gone", "model_not_found"):
        return Problem(404, "not-found", message, errors=[{"loc": ["body", "model"], "msg": message}])
    if error["kind"] == "user":
        return Problem(400, code, message, errors=[{"loc": ["body", str(field or "model")], "msg": message}])
    return _unavailable(code, message)


def _unavailable(code: str, message: str) -> Problem:
    return Problem(503, code, message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
