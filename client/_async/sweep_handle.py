"""One sweep, held in the hand: what `Asym.submit_sweep` and `Asym.get_sweep` return."""

from typing import TYPE_CHECKING, Self

from client._async.job_handle import AsyncJobHandle
from client.frames import sweep_frame
from client.results import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from client._async.asym import AsyncAsym


class AsyncSweepHandle:
    """A sweep as it was seen last: attributes never ask the API, methods do, and what they learn stays."""

    def __init__(self, asym: "AsyncAsym", sweep: Sweep) -> None:
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

    async def refresh(self) -> Self:
        """Look again. Itself."""
        self.seen = await self._asym.sweep(self.id)
        return self

    async def table(self) -> "pd.DataFrame":
        """Look again; a row per job with what it has of its own, its status and its metric, as a frame."""
        return sweep_frame((await self.refresh()).seen)

    async def wait(self, timeout: float | None = None) -> Self:
        """Until every job that it has now has ended. Itself; TimeoutError after `timeout` seconds for all of them."""
        clock = self._asym.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        for job_id in self.job_ids:
            left = None if deadline is None else max(deadline - clock.monotonic(), 0.0)
            await self._asym.wait(job_id, timeout=left)
        return await self.refresh()

    async def job(self, number: int) -> AsyncJobHandle:
        """The job with this number. KeyError where there is none (any more)."""
        for each in self.seen["jobs"]:
            if each["number"] == number and each["job_id"] is not None:
                return await self._asym.get(each["job_id"])
        raise KeyError(number)

    async def cancel(self) -> Self:
        """End every job of it that has not ended."""
        self.seen = await self._asym.cancel_sweep(self.id)
        return self

    async def pause(self) -> Self:
        """Hold every job of it that waits or runs."""
        self.seen = await self._asym.pause_sweep(self.id)
        return self

    async def resume(self) -> Self:
        """Go on with every job of it that is held, failed or was cancelled."""
        self.seen = await self._asym.resume_sweep(self.id)
        return self
