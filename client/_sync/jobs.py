# Generated from client/_async/jobs.py by `./dev sdk`; edit it there.
"""Jobs: making, listing, steering, waiting for them."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from client._sync.calls import Calls
from client._sync.event_stream import PATIENCE_SECONDS
from client.errors import AsymError
from client.results import TERMINAL, Job, Page, Status, Validation
from client.retries import is_passing


class Jobs(Calls):
    """Part of `Asym`."""

    dashboard_url: str | None

    def create_job(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Create a job. The same idempotency key with the same spec returns the first job; another spec is a 409."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        result: Job = self._transport.json("POST", "/jobs", body=dict(spec), headers=headers, repeatable=True)
        return result

    def validate_job(self, spec: Mapping[str, Any]) -> Validation:
        """What creating the job would answer: the resolved spec and the wait. AsymError 422 names each wrong field."""
        result: Validation = self._transport.json("POST", "/jobs/validate", body=dict(spec), repeatable=True)
        return result

    def jobs(
        self,
        *,
        status: Status | Sequence[Status] | None = None,
        tags: Sequence[str] = (),
        text: str | None = None,
        model: str | None = None,
        preset: str | None = None,
        owner: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Newest first, unless sorted otherwise (`name`, `-accuracy`, ...); stops after `limit` when given.

        tags: those that have all of them. text: words that words of the name or the notes begin with. owner: the id
        of the key that made them.
        """
        wanted = {"status": status, "tag": list(tags) or None, "text": text, "model": model, "preset": preset}
        return self._all("/jobs", {**wanted, "owner": owner, "sort": sort}, limit)

    def jobs_page(
        self,
        *,
        limit: int = 50,
        after: str | None = None,
        status: Status | Sequence[Status] | None = None,
        ids: Sequence[str] = (),
        tags: Sequence[str] = (),
        text: str | None = None,
        owner: str | None = None,
        sort: str | None = None,
    ) -> Page[Job]:
        """One page of `jobs`, in one request. ids: those of them that there are."""
        params = {"limit": limit, "after": after, "status": status, "id": list(ids) or None, "tag": list(tags) or None}
        result: Page[Job] = self._transport.json(
            "GET", "/jobs", params={**params, "text": text, "owner": owner, "sort": sort}
        )
        return result

    def job(self, job_id: str) -> Job:
        result: Job = self._transport.json("GET", f"/jobs/{job_id}")
        return result

    def job_to_edit(self, job_id: str) -> tuple[Job, str | None]:
        """The job, and the tag by which `edit_job` tells whether somebody has edited it since."""
        job, tag = self._transport.tagged(f"/jobs/{job_id}")
        return job, tag

    def edit_job(
        self,
        job_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        if_match: str | None = None,
    ) -> Job:
        """Change what a job is called and what is said of it; None leaves a thing as it is.

        if_match: the tag of `job_to_edit`; AsymError 412 where it was edited since.
        """
        given = {"name": name, "tags": None if tags is None else list(tags), "notes": notes}
        body = {field: value for field, value in given.items() if value is not None}
        headers = None if if_match is None else {"If-Match": if_match}
        # What was seen is seen once: a second try after an edit that arrived would find itself refused.
        result: Job = self._transport.json(
            "PATCH", f"/jobs/{job_id}", body=body, headers=headers, repeatable=if_match is None
        )
        return result

    def cancel(self, job_id: str) -> Job:
        return self._ask(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Write a checkpoint and free the GPUs; `resume` goes on from it in the same job."""
        return self._ask(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Queue a paused job; one that is still pausing is queued once it is paused."""
        return self._ask(job_id, "resume")

    def retry(self, job_id: str) -> Job:
        """A new job that goes on from the last checkpoint of a failed or cancelled one. Twice is once."""
        return self._ask(job_id, "retry")

    def clone(
        self, job_id: str, changes: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Job:
        """A new job with the spec of this one but for `changes`, a part of a spec (JSON merge patch)."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        path = f"/jobs/{job_id}/clone"
        result: Job = self._transport.json("POST", path, body=dict(changes or {}), headers=headers, repeatable=True)
        return result

    def delete_job(self, job_id: str) -> None:
        """Delete an ended job with all that it left. AsymError 409 while it runs, or another job begins with it."""
        self._transport.json("DELETE", f"/jobs/{job_id}")

    def _ask(self, job_id: str, action: Literal["cancel", "pause", "resume", "retry"]) -> Job:
        # Asking twice is asking once.
        result: Job = self._transport.json("POST", f"/jobs/{job_id}/{action}", repeatable=True)
        return result

    def run_page(self, job_id: str) -> str | None:
        """The address of the job's page on the dashboard, where that is known."""
        return f"{self.dashboard_url.rstrip('/')}/run?job={job_id}" if self.dashboard_url else None

    def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Wait until the job has succeeded, failed or been cancelled. TimeoutError after `timeout` seconds.

        An API that is started again meanwhile is waited for, a minute at most.
        """
        clock = self._transport.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        pause, away_since, status = 0.5, None, "not known"
        while True:
            try:
                job = self.job(job_id)
                away_since, status = None, job["status"]
                if status in TERMINAL:
                    return job
            except AsymError as error:
                away_since = away_since or clock.monotonic()
                if not is_passing(error) or clock.monotonic() - away_since > PATIENCE_SECONDS:
                    raise
            if deadline is not None and clock.monotonic() + pause > deadline:
                raise TimeoutError(f"{job_id} is still {status} after {timeout} s")
            clock.sleep(pause)
            pause = min(pause * 1.2, 5.0)
