"""The lease of one attempt: renewed from a thread of its own, so that nothing slow can make it late.

Owns when to renew and what the last renewal said; what to do about it is the attempt's (worker/attempt.py).
"""

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from store import logs
from store.errors import LeaseLost
from store.status import JobStatus

log = logging.getLogger(__name__)

_STOP_SECONDS = 1.0


class LeaseKeeper:
    """Renews every third of the lease and whenever `renew_soon` is called; `on_change` after every answer."""

    def __init__(
        self,
        renew: Callable[[], JobStatus],
        *,
        lease_seconds: float,
        claimed_at: float,
        on_change: Callable[[], None],
    ) -> None:
        """`renew` asks the database and returns the wished status; `claimed_at`: time.monotonic() before claiming."""
        self._renew = renew
        self._lease_seconds = lease_seconds
        self._on_change = on_change
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._renewed_at = claimed_at
        self.wish = JobStatus.RUNNING
        self.lost = False
        self._thread = logs.thread(self._run, name="lease")

    @property
    def suspend_at(self) -> float:
        """When the trainer must stand still unless a renewal succeeds before, on time.monotonic().

        Two thirds of the lease, counted from before the question was sent: the database's clock started later.
        """
        return self._renewed_at + self._lease_seconds * 2 / 3

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Renew no more. A renewal that hangs is left behind."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(_STOP_SECONDS)

    def renew_soon(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        reachable = True
        while not self._stopped.is_set():
            asked_at = time.monotonic()
            try:
                self.wish = self._renew()
                self._renewed_at = asked_at
                if not reachable:
                    log.warning("the lease is renewed again")
                reachable = True
            except LeaseLost:
                self.lost = True
            except SQLAlchemyError as error:
                # Of whatever kind: what cannot be renewed must stand still.
                if reachable:
                    log.warning("cannot renew the lease: %s", error)
                reachable = False
            self._on_change()
            if self.lost:
                return
            # After a failure sooner: the trainer may be standing still because of it.
            self._wake.wait(self._lease_seconds / 3 if reachable else min(1.0, self._lease_seconds / 6))
            self._wake.clear()
