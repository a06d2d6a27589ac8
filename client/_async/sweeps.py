"""Sweeps: many jobs of one plan."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from client._async.calls import AsyncCalls
from client.results import Sweep, SweepSummary


class AsyncSweeps(AsyncCalls):
    """Part of `Asym`."""

    async def create_sweep(self, plan: Mapping[str, Any], *, idempotency_key: str | None = None) -> Sweep:
        """Create every job of a plan, or none. AsymError 422 names each path and value that is wrong."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        result: Sweep = await self._transport.json("POST", "/sweeps", body=dict(plan), headers=headers, repeatable=True)
        return result

    def sweeps(self, *, limit: int | None = None) -> AsyncIterator[SweepSummary]:
        """Newest first."""
        return self._all("/sweeps", {}, limit)

    async def sweep(self, sweep_id: str) -> Sweep:
        result: Sweep = await self._transport.json("GET", f"/sweeps/{sweep_id}")
        return result

    async def cancel_sweep(self, sweep_id: str) -> Sweep:
        """End every job of it that has not ended."""
        return await self._ask_sweep(sweep_id, "cancel")

    async def pause_sweep(self, sweep_id: str) -> Sweep:
        """Hold every job of it that waits or runs."""
        return await self._ask_sweep(sweep_id, "pause")

    async def resume_sweep(self, sweep_id: str) -> Sweep:
        """Go on with every job of it that is held, failed or was cancelled."""
        return await self._ask_sweep(sweep_id, "resume")

    async def _ask_sweep(self, sweep_id: str, action: Literal["cancel", "pause", "resume"]) -> Sweep:
        result: Sweep = await self._transport.json(
            "POST", f"/sweeps/{sweep_id}/{action}", repeatable=action != "resume"
        )
        return result
