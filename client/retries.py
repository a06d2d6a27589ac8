"""Whether a request that failed is tried again, and when: exponential, jittered, the server's own word first."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from client.errors import AsymError, Unreachable

PASSING = frozenset({429, 502, 503, 504})
"""Statuses that say: the same request may well succeed in a moment."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
LONGEST_RETRY_AFTER = 30.0
"""A server that asks for a longer pause than this is not waited for: the caller is told at once, and for how long."""


def is_passing(error: AsymError) -> bool:
    """Whether the API is away for a moment, as when it is started again, and worth waiting for."""
    return isinstance(error, Unreachable) or error.status in PASSING


def pause_before(retry: int, retries: int, retry_after: float | None) -> float | None:
    """Seconds before the retry number `retry` (0 is the first) of at most `retries`; None: give up.

    retry_after: what the server asked for, see `retry_after_seconds`. It is never undercut.
    """
    if retry >= retries or (retry_after is not None and retry_after > LONGEST_RETRY_AFTER):
        return None
    # Jitter, so that a hundred clients of a restarted API do not come back in step.
    backoff = min(FIRST_PAUSE * 2.0**retry, LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311
    return max(backoff, retry_after or 0.0)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """What a Retry-After asks for (RFC 9110, 10.2.3: seconds, or an HTTP date); None: nothing that can be read."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    # An HTTP date is in GMT, also where it does not say so.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)
