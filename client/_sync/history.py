# Generated from client/_async/history.py by `./dev sdk`; edit it there.
"""What a job leaves behind: metrics, events, rollouts, its log, checkpoints; and comparing them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from client._sync import download, event_stream
from client._sync.calls import Calls, joined
from client.errors import AsymError
from client.results import (
    Checkpoint,
    Clock,
    CommonPrompts,
    ComparedRun,
    Comparison,
    JobEvent,
    LogLine,
    MetricRow,
    Metrics,
    MetricsTakenBack,
    Page,
    Rollout,
)
from client.transfers import Progress


class History(Calls):
    """Part of `Asym`."""

    def metrics(
        self,
        job_id: str,
        keys: Sequence[str] | None = None,
        *,
        from_step: int | None = None,
        to_step: int | None = None,
        max_points: int | None = None,
        since: str | None = None,
    ) -> Metrics:
        """Columns per key (`entropy/*` is every key that begins so); all keys when none are named.

        Longer series are thinned out to `max_points`, the server's 2,000 unless given, with their extremes kept.
        since: "0", then the `cursor` of the answer before: only what has changed (docs/metrics-store.md).
        """
        params = {"keys": joined(keys), "from_step": from_step, "to_step": to_step, "max_points": max_points}
        params["since"] = since
        result: Metrics = self._transport.json("GET", f"/jobs/{job_id}/metrics", params=params)
        return result

    def stream_metrics(
        self, job_id: str, keys: Sequence[str] | None = None, *, since: str | None = "0"
    ) -> Iterator[MetricRow | MetricsTakenBack]:
        """Rows as they are written, in order, through broken connections, until the job has ended.

        From the first one on, or behind a cursor; since=None: from now on. What has `drop_after` takes rows back.
        """
        return event_stream.stream_metrics(self._transport, job_id, joined(keys), since)

    def compare(
        self,
        job_ids: Sequence[str],
        keys: Sequence[str] | None = None,
        *,
        max_points: int | None = None,
        since: str | None = None,
        from_step: int | None = None,
        to_step: int | None = None,
        thinned: Literal["extremes", "same_steps"] | None = None,
    ) -> Comparison:
        """The same metrics of at most 50 jobs. since: `cursor` of the answer before ("0": none), for what is new.

        thinned: what is kept of longer series: each one's extremes, or the same steps of all of them.
        """
        steps = {"from_step": from_step, "to_step": to_step}
        params = {"jobs": joined(job_ids), "keys": joined(keys), "max_points": max_points, "thinned": thinned}
        result: Comparison = self._transport.json("GET", "/compare", params={**params, "since": since, **steps})
        return result

    def compared_runs(self, job_ids: Sequence[str]) -> dict[str, ComparedRun]:
        """By id, at most 50 jobs with their specs and the keys of what they measured."""
        result: dict[str, ComparedRun] = (
            self._transport.json("GET", "/compare/runs", params={"jobs": joined(job_ids)})
        )["jobs"]
        return result

    def clocks(self, job_ids: Sequence[str], *, points: int | None = None) -> dict[str, Clock]:
        """By id, how long each of at most 50 jobs took to come to its steps."""
        params = {"jobs": joined(job_ids), "points": points}
        result: dict[str, Clock] = (self._transport.json("GET", "/compare/clock", params=params))["jobs"]
        return result

    def common_prompts(
        self,
        job_ids: Sequence[str],
        *,
        from_step: int | None = None,
        to_step: int | None = None,
        limit: int | None = None,
    ) -> CommonPrompts:
        """Rows of the training data of which each of the jobs has stored rollouts; AsymError 422 on different data."""
        params = {"jobs": joined(job_ids), "from_step": from_step, "to_step": to_step, "limit": limit}
        result: CommonPrompts = self._transport.json("GET", "/compare/prompts", params=params)
        return result

    def export_metrics(self, job_ids: Sequence[str], keys: Sequence[str] | None = None) -> Iterator[bytes]:
        """The metrics of at most 50 jobs at every step as CSV, piece by piece, as they come."""
        params = {"jobs": joined(job_ids), "keys": joined(keys)}
        with self._transport.stream("/compare/export", headers={}, params=params, read_timeout=60) as response:
            for piece in response.iter_bytes():
                yield piece

    def events(self, job_id: str, *, after: int = 0, limit: int = 200, types: Sequence[str] = ()) -> Page[JobEvent]:
        """Oldest first, those with ids above `after`; types: of these alone (`state`, `message`, ...)."""
        params = {"after": after, "limit": limit, "type": list(types) or None}
        result: Page[JobEvent] = self._transport.json("GET", f"/jobs/{job_id}/events", params=params)
        return result

    def stream_events(self, job_id: str, *, after: int = 0) -> Iterator[JobEvent]:
        """Events as they happen, each once, through broken connections, until the job has ended."""
        return event_stream.stream_events(self._transport, job_id, after)

    def rollouts(
        self,
        job_id: str,
        *,
        step: int | None = None,
        correct: bool | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Rollout]:
        params = {
            "step": step,
            "correct": None if correct is None else str(correct).lower(),
            "limit": limit,
            "after": after,
        }
        result: Page[Rollout] = self._transport.json("GET", f"/jobs/{job_id}/rollouts", params=params)
        return result

    def logs(self, job_id: str, *, after: int = 0, limit: int = 500, tail: int | None = None) -> Page[LogLine]:
        """Oldest first, those with ids above `after`; tail: the newest so many instead."""
        params = {"after": after, "limit": limit, "tail": tail}
        result: Page[LogLine] = self._transport.json("GET", f"/jobs/{job_id}/logs", params=params)
        return result

    def stream_logs(self, job_id: str, *, after: int = 0) -> Iterator[LogLine]:
        """Lines as they are written, each once, through broken connections, until the job has ended."""
        return event_stream.stream_logs(self._transport, job_id, after)

    def download_checkpoint(
        self, job_id: str, step: int, to: Path | str = ".", *, progress: Progress | None = None
    ) -> Path:
        """The checkpoint's model as a Hugging Face folder below `to`; the folder. AsymError 404 when it is gone."""
        return download.download_checkpoint(self._transport, job_id, step, Path(to), progress)

    def export_checkpoint(
        self,
        job_id: str,
        step: int,
        to: Path | str,
        *,
        format: download.Format = "huggingface",
        progress: Progress | None = None,
    ) -> Path:
        """The checkpoint as the folder `to`, new or empty: the whole model (a LoRA adapter merged into its base), or
        with `format="adapter"` the adapter alone. AsymError 409 where it cannot be had so.

        progress: called with the bytes that have come and the bytes in all.
        """
        return download.export_checkpoint(self._transport, job_id, step, Path(to), format, progress)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        return self._listed(f"/jobs/{job_id}/checkpoints", {}, None)

    def newest_checkpoint(self, job_id: str) -> int:
        """The step of the last checkpoint that can be fetched. AsymError when there is none."""
        found = self.checkpoints(job_id)
        usable = [each["step"] for each in found if not (each["deleted_at"] or each["superseded_at"])]
        if not usable:
            raise AsymError("no checkpoint", detail=f"{job_id} has none that can be exported")
        return usable[-1]
