"""Waiting for what another process does: every test's one loop of this kind."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = 30.0, what: str = "", poll: float = 0.05) -> T:
    """The first true value of the condition. AssertionError, with `what` was waited for, when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(poll)
    return value
