"""What feeds a sampler: takes the requests that wait for it out of the database and hands them over, line by line.

It also decides how long the sampler goes on: until nobody has asked for a while, or sooner where a job waits that could
have the slot. It ends by closing the pipe; then the sampler finishes what it has begun, and its attempt settles the
rest.
"""

import json
import logging
import os
import select
import threading
import time
from typing import Any

import psycopg

from store import samplers
from store.database import Database
from store.errors import LeaseLost
from store.leases import Claim
from store.notifications import RequestListener
from store.samplers import Look
from store.settings import Settings
from worker.outage import UNREACHABLE

log = logging.getLogger(__name__)

MOST_IN_HAND = 64
"""Requests that a sampler has at once. It batches what there is room for; the others wait in the database."""
LOOK_SECONDS = 1.0
GIVE_WAY_SECONDS = 1.0
"""An idle sampler ends so soon where a job waits for its slot: a conversation's next message may be on its way."""
TURN_SECONDS = 60.0
"""One that is busy takes no more requests after so long, where a job waits: then it stands in line like that job."""
_WRITE_SECONDS = 0.5


class OrderFeed:
    """A thread. `start` and `close` may be called from any other, and `close` before `start`."""

    def __init__(self, database: Database, settings: Settings, claim: Claim) -> None:
        self._database = database
        self._database_url = settings.require_database_url()
        self._idle_seconds = settings.sampler_idle_seconds
        self._claim = claim
        self._closing = threading.Event()

    def start(self, pipe: int) -> None:
        """Feed the process at the other end of the pipe, which is closed in the end."""
        threading.Thread(target=self._run, args=(pipe,), name="orders", daemon=True).start()

    def close(self) -> None:
        """Take no more requests."""
        self._closing.set()

    def _run(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        listener: RequestListener | None = None
        in_hand: frozenset[str] = frozenset()
        begun = busy_at = time.monotonic()
        try:
            while not self._closing.is_set():
                now = time.monotonic()
                try:
                    listener = listener or RequestListener(self._database_url, self._claim.job_id)
                    found = self._look(in_hand, MOST_IN_HAND - len(in_hand))
                    self._hand_over(pipe, found, in_hand - found.open)
                    in_hand = found.open | {request_id for request_id, _ in found.taken}
                    if in_hand or found.waiting:
                        busy_at = now
                    if self._is_over(found, bool(in_hand), now - begun, now - busy_at):
                        return
                    listener.wait(LOOK_SECONDS)
                except (*UNREACHABLE, psycopg.OperationalError) as error:
                    log.warning("%s: cannot look for requests: %s", self._claim.job_id, str(error).partition("\n")[0])
                    listener = None
                    self._closing.wait(LOOK_SECONDS)
        except (LeaseLost, BrokenPipeError):
            pass  # the attempt finds out by itself
        finally:
            os.close(pipe)
            if listener is not None:
                listener.close()

    def _look(self, in_hand: frozenset[str], room: int) -> Look:
        with self._database.transaction() as session:
            return samplers.look(session, self._claim.job_id, self._claim.attempt, sorted(in_hand), room)

    def _is_over(self, found: Look, busy: bool, served: float, idle: float) -> bool:
        if found.others_wait and served >= TURN_SECONDS:
            # What it has is finished all the same.
            return True
        return not busy and idle >= (GIVE_WAY_SECONDS if found.others_wait else self._idle_seconds)

    def _hand_over(self, pipe: int, found: Look, gone: frozenset[str]) -> None:
        orders: list[dict[str, Any]] = [{"id": request_id} for request_id in sorted(gone)]
        orders += [{"id": request_id, "request": request} for request_id, request in found.taken]
        data = "".join(f"{json.dumps(order)}\n" for order in orders).encode()
        while data and not self._closing.is_set():
            # The sampler reads at once; while it is suspended it does not.
            _, writable, _ = select.select([], [pipe], [], _WRITE_SECONDS)
            if writable:
                data = data[os.write(pipe, data) :]
