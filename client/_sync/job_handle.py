# Generated from client/_async/job_handle.py by `./dev sdk`; edit it there.
"""One job, held in the hand: what `Asym.submit` and `Asym.get` return."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from client._sync.download import Format
from client.frames import EVERY_STEP, metrics_frame
from client.results import TERMINAL, Checkpoint, Job, JobEvent, LogLine, MetricRow, MetricsTakenBack, Status
from client.transfers import Progress

if TYPE_CHECKING:
    import pandas as pd

    from client._sync.asym import Asym

LINES_AT_ONCE = 500


class JobHandle:
    """A job as it was seen last: attributes never ask the API, methods do, and what they learn stays.

    It lives as long as the connection that it came from.
    """

    def __init__(self, asym: "Asym", job: Job) -> None:
        self._asym = asym
        self.seen: Job = job
        """All that the API told of it last."""

    def __repr__(self) -> str:
        progress = self.seen["progress"]
        return f"<job {self.id} {self.seen['name']!r}: {self.status}, step {progress['step']}/{progress['steps']}>"

    @property
    def id(self) -> str:
        return self.seen["id"]

    @property
    def name(self) -> str:
        return self.seen["name"]

    @property
    def status(self) -> Status:
        """As it was seen last; `refresh` looks again."""
        return self.seen["status"]

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def page(self) -> str | None:
        """Its address on the dashboard, where that is known."""
        return self._asym.run_page(self.id)

    def refresh(self) -> Self:
        """Look again. Itself."""
        self.seen = self._asym.job(self.id)
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Until it has succeeded, failed or been cancelled. Itself; TimeoutError after `timeout` seconds."""
        self.seen = self._asym.wait(self.id, timeout=timeout)
        return self

    # Steering

    def cancel(self) -> Self:
        """End it for good."""
        self.seen = self._asym.cancel(self.id)
        return self

    def pause(self) -> Self:
        """Write a checkpoint and free the GPUs."""
        self.seen = self._asym.pause(self.id)
        return self

    def resume(self) -> Self:
        """Queue it again, to go on from its last checkpoint."""
        self.seen = self._asym.resume(self.id)
        return self

    def retry(self) -> "JobHandle":
        """The new job that goes on from the last checkpoint of this one, which has failed or was cancelled."""
        return JobHandle(self._asym, self._asym.retry(self.id))

    def clone(self, changes: Mapping[str, Any] | None = None) -> "JobHandle":
        """A new job with this one's spec but for `changes`, a part of a spec."""
        return JobHandle(self._asym, self._asym.clone(self.id, changes))

    def edit(self, *, name: str | None = None, tags: Sequence[str] | None = None, notes: str | None = None) -> Self:
        """Change what it is called and what is said of it; None leaves a thing as it is. Itself."""
        self.seen = self._asym.edit_job(self.id, name=name, tags=tags, notes=notes)
        return self

    def delete(self) -> None:
        """Delete it, ended, with all that it left."""
        self._asym.delete_job(self.id)

    # What it leaves behind

    def stream(self, *, after: int = 0) -> Iterator[JobEvent]:
        """Its events, those of the past and then as they come, each once, until it has ended."""
        return self._asym.stream_events(self.id, after=after)

    def metrics(
        self, keys: Sequence[str] | None = None, *, from_step: int | None = None, to_step: int | None = None
    ) -> "pd.DataFrame":
        """Every step of these keys (all without; `entropy/*` is all that begin so) as a frame, index `step`.

        Missing is NaN; whole numbers are Int64. MissingExtras says what to install where pandas is not.
        """
        found = self._asym.metrics(self.id, keys, from_step=from_step, to_step=to_step, max_points=EVERY_STEP)
        return metrics_frame(found, keys)

    def stream_metrics(
        self, keys: Sequence[str] | None = None, *, since: str | None = "0"
    ) -> Iterator[MetricRow | MetricsTakenBack]:
        """Rows as they are written, from the first one on, until it has ended."""
        return self._asym.stream_metrics(self.id, keys, since=since)

    def logs(self, *, tail: int | None = None) -> list[LogLine]:
        """What its trainer wrote, all of it or the newest `tail` lines."""
        if tail is not None:
            return (self._asym.logs(self.id, tail=tail))["data"]
        found: list[LogLine] = []
        while True:
            after = found[-1]["id"] if found else 0
            page = self._asym.logs(self.id, after=after, limit=LINES_AT_ONCE)
            found += page["data"]
            if not page["has_more"] or not page["data"]:
                return found

    def stream_logs(self, *, after: int = 0) -> Iterator[LogLine]:
        """Lines, those of the past and then as they are written, until it has ended."""
        return self._asym.stream_logs(self.id, after=after)

    def checkpoints(self) -> list[Checkpoint]:
        return self._asym.checkpoints(self.id)

    def export(
        self, step: int | None, to: Path | str, *, format: Format = "huggingface", progress: Progress | None = None
    ) -> Path:
        """A checkpoint (None: the newest) as the folder `to`, for transformers; see `Asym.export_checkpoint`."""
        if step is None:
            step = self._asym.newest_checkpoint(self.id)
        return self._asym.export_checkpoint(self.id, step, to, format=format, progress=progress)
