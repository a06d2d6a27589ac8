# Generated from client/_async/sweep_handle.py by `./dev sdk`; edit it there.
"""One sweep, held in the hand: what `Asym.submit_sweep` and `Asym.get_sweep` return."""

from typing import TYPE_CHECKING, Self

from client._sync.job_handle import JobHandle
from client.frames import sweep_frame
from client.results import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from client._sync.asym import Asym


class SweepHandle:
    """A sweep as it was seen last: attributes never ask the API, methods do, and what they learn stays."""

    def __init__(self, asym: "Asym", sweep: Sweep) -> None:
        self._asym = asym
        self.seen: Sweep = sweep
        """All that the API told of it last."""

    def __repr__(self) -> str:
        return f"<sweep {self.id} {self.seen['name']!r}: {self.seen['statuses']}>"

    @property
    def id(self) -> str:
        return self.seen["id"]

    @property
    def job_ids(self) -> list[str]:
        """Of its jobs, those that were deleted left out."""
        return [each["job_id"] for each in self.seen["jobs"] if each["job_id"] is not None]

    def refresh(self) -> Self:
        """Look again. Itself."""
        self.seen = self._asym.sweep(self.id)
        return self

    def table(self) -> "pd.DataFrame":
        """Look again; a row per job with what it has of its own, its status and its metric, as a frame."""
        return sweep_frame((self.refresh()).seen)

    def wait(self, timeout: float | None = None) -> Self:
        """Until every job that it has now has ended. Itself; TimeoutError after `timeout` seconds for all of them."""
        clock = self._asym.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        for job_id in self.job_ids:
            left = None if deadline is None else max(deadline - clock.monotonic(), 0.0)
            self._asym.wait(job_id, timeout=left)
        return self.refresh()

    def job(self, number: int) -> JobHandle:
        """The job with this number. KeyError where there is none (any more)."""
        for each in self.seen["jobs"]:
            if each["number"] == number and each["job_id"] is not None:
                return self._asym.get(each["job_id"])
        raise KeyError(number)

    def cancel(self) -> Self:
        """End every job of it that has not ended."""
        self.seen = self._asym.cancel_sweep(self.id)
        return self

    def pause(self) -> Self:
        """Hold every job of it that waits or runs."""
        self.seen = self._asym.pause_sweep(self.id)
        return self

    def resume(self) -> Self:
        """Go on with every job of it that is held, failed or was cancelled."""
        self.seen = self._asym.resume_sweep(self.id)
        return self
