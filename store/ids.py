"""Ids: a prefix that names the kind and a ULID in lower case, so that sorting by id is sorting by creation time."""

import secrets
import threading
import time
from datetime import datetime
from typing import Literal

Kind = Literal["job", "ds", "key", "member", "team", "worker", "sweep", "hook"]

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id(kind: Kind) -> str:
    """`job_` and 26 characters of Crockford's base 32: 48 bits of milliseconds, 80 random bits.

    Ids of one process always grow, also within a millisecond (the ULID specification's monotonic form).
    """
    global _last
    with _lock:
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        _last = max(fresh, _last + 1)
        value = _last
    return _written(kind, value)


def first_id(kind: Kind, moment: datetime) -> str:
    """The smallest id that can have been made at this moment, by a clock that is right. For bounds, not for objects."""
    milliseconds = min(max(round(moment.timestamp() * 1000), 0), 2**48 - 1)
    return _written(kind, milliseconds << _RANDOM_BITS)


def _written(kind: Kind, value: int) -> str:
    return f"{kind}_" + "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
