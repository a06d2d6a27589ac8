"""Waiting for what another process does: the loop that tests and their fixtures share."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], seconds: float = 30.0, what: str | Callable[[], str] = "", poll: float = 0.05
) -> T:
    """The first true value of the condition; AssertionError when there is none in time.

    what: is waited for; a function says it when the time is over, with what is known only then.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, (
            f"not within {seconds:g} s: {(what() if callable(what) else what) or condition}"
        )
        time.sleep(poll)
    return value
