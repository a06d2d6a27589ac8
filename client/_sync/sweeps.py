# Generated from client/_async/sweeps.py by `./dev sdk`; edit it there.
"""Sweeps: many jobs of one plan."""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from client._sync.calls import Calls
from client.results import Sweep, SweepSummary


class Sweeps(Calls):
    """Part of `Asym`."""

    def create_sweep(self, plan: Mapping[str, Any], *, idempotency_key: str | None = None) -> Sweep:
        """Create every job of a plan, or none. AsymError 422 names each path and value that is wrong."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        result: Sweep = self._transport.json("POST", "/sweeps", body=dict(plan), headers=headers, repeatable=True)
        return result

    def sweeps(self, *, limit: int | None = None) -> Iterator[SweepSummary]:
        """Newest first."""
        return self._all("/sweeps", {}, limit)

    def sweep(self, sweep_id: str) -> Sweep:
        result: Sweep = self._transport.json("GET", f"/sweeps/{sweep_id}")
        return result

    def cancel_sweep(self, sweep_id: str) -> Sweep:
        """End every job of it that has not ended."""
        return self._ask_sweep(sweep_id, "cancel")

    def pause_sweep(self, sweep_id: str) -> Sweep:
        """Hold every job of it that waits or runs."""
        return self._ask_sweep(sweep_id, "pause")

    def resume_sweep(self, sweep_id: str) -> Sweep:
        """Go on with every job of it that is held, failed or was cancelled."""
        return self._ask_sweep(sweep_id, "resume")

    def _ask_sweep(self, sweep_id: str, action: Literal["cancel", "pause", "resume"]) -> Sweep:
        result: Sweep = self._transport.json("POST", f"/sweeps/{sweep_id}/{action}", repeatable=action != "resume")
        return result
