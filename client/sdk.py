"""`Asym`: every route of the API as a method, blocking, with plain dicts of the API's own JSON as results."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from client import download, event_stream
from client.credentials import find_credentials
from client.results import (
    TERMINAL,
    AuditEntry,
    Checkpoint,
    Clock,
    CommonPrompts,
    ComparedRun,
    Comparison,
    Dataset,
    DatasetRow,
    Job,
    JobEvent,
    Key,
    LogLine,
    Me,
    Member,
    MetricRow,
    Metrics,
    MetricsTakenBack,
    Page,
    PromptTokens,
    QueuedJob,
    Rollout,
    Status,
    Sweep,
    SweepSummary,
    Validation,
    Worker,
)
from client.transport import Transport

PAGE = 100
"""How many objects one request of an iterator asks for."""
SAMPLING_SECONDS = 900.0
"""A model may have to be loaded first; the server has a limit of its own (ASYM_SAMPLER_REQUEST_SECONDS)."""


RoleName = Literal["viewer", "member", "admin"]


class Asym:
    """A connection to one Asym API. Use it as a context manager, or close() it; threads may share it.

    URL and key: the arguments, else ASYM_API_URL and ASYM_API_KEY, else ASYM_HOME/credentials.json.
    Requests that may be repeated safely are repeated `retries` times with growing pauses; so are created jobs, under
    an Idempotency-Key. Refusals raise `AsymError`; no answer within `timeout` seconds raises `Unreachable`.
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
    ) -> None:
        credentials = find_credentials(api_url, api_key, home=home)
        self.api_url = credentials.api_url
        self.dashboard_url = credentials.dashboard_url
        self._transport = Transport(credentials, timeout=timeout, retries=retries)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Data sets

    def upload_dataset(
        self,
        file: str | Path | BinaryIO,
        *,
        name: str | None = None,
        filename: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Upload JSONL, CSV or Parquet, read as it is sent.

        columns: {"prompt": COLUMN, "answer": COLUMN}, as `data.columns` of a spec, where they have unusual names.
        A file with bad lines is refused whole: the AsymError lists them all.
        """
        data = {} if name is None else {"name": name}
        if columns:
            data["columns"] = json.dumps(dict(columns))
        if isinstance(file, str | Path):
            with Path(file).open("rb") as opened:
                return self._upload(opened, filename or Path(file).name, data)
        return self._upload(file, filename or Path(getattr(file, "name", "data.jsonl")).name, data)

    def _upload(self, file: BinaryIO, filename: str, data: Mapping[str, str]) -> Dataset:
        result: Dataset = self._transport.upload(
            "/datasets", files={"file": (filename, file, "application/octet-stream")}, data=data
        )
        return result

    def datasets(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Dataset]:
        """Newest first; with `name`, its versions."""
        return self._all("/datasets", {} if name is None else {"name": name}, limit)

    def dataset(self, dataset_id: str) -> Dataset:
        result: Dataset = self._transport.json("GET", f"/datasets/{dataset_id}")
        return result

    def dataset_tokens(self, dataset_id: str, model: str) -> PromptTokens:
        """How many tokens its prompts have for a model whose tokenizer the API's machine has."""
        result: PromptTokens = self._transport.json("GET", f"/datasets/{dataset_id}/tokens", params={"model": model})
        return result

    def dataset_rows(
        self, dataset_id: str, *, limit: int = 50, after: int = 0, columns: Mapping[str, str] | None = None
    ) -> Page[DatasetRow]:
        """The rows behind row number `after`, as a trainer with these `data.columns` reads them."""
        params = {"limit": limit, "after": after, **(columns or {})}
        result: Page[DatasetRow] = self._transport.json("GET", f"/datasets/{dataset_id}/rows", params=params)
        return result

    def delete_dataset(self, dataset_id: str) -> None:
        """AsymError 409 while a job that has not ended uses it."""
        self._transport.json("DELETE", f"/datasets/{dataset_id}")

    # Jobs

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
        """Block until the job has succeeded, failed or been cancelled. TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.5
        while (job := self.job(job_id))["status"] not in TERMINAL:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"{job_id} is still {job['status']} after {timeout} s")
            time.sleep(pause)
            pause = min(pause * 1.2, 5.0)
        return job

    # What a job leaves behind

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
        params = {"keys": _joined(keys), "from_step": from_step, "to_step": to_step, "max_points": max_points}
        params["since"] = since
        result: Metrics = self._transport.json("GET", f"/jobs/{job_id}/metrics", params=params)
        return result

    def stream_metrics(
        self, job_id: str, keys: Sequence[str] | None = None, *, since: str | None = "0"
    ) -> Iterator[MetricRow | MetricsTakenBack]:
        """Rows as they are written, in order, through broken connections, until the job has ended.

        From the first one on, or behind a cursor; since=None: from now on. What has `drop_after` takes rows back.
        """
        return event_stream.stream_metrics(self._transport, job_id, _joined(keys), since)

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
        params = {"jobs": _joined(job_ids), "keys": _joined(keys), "max_points": max_points, "thinned": thinned}
        result: Comparison = self._transport.json("GET", "/compare", params={**params, "since": since, **steps})
        return result

    def compared_runs(self, job_ids: Sequence[str]) -> dict[str, ComparedRun]:
        """By id, at most 50 jobs with their specs and the keys of what they measured."""
        result: dict[str, ComparedRun] = self._transport.json(
            "GET", "/compare/runs", params={"jobs": _joined(job_ids)}
        )["jobs"]
        return result

    def clocks(self, job_ids: Sequence[str], *, points: int | None = None) -> dict[str, Clock]:
        """By id, how long each of at most 50 jobs took to come to its steps."""
        params = {"jobs": _joined(job_ids), "points": points}
        result: dict[str, Clock] = self._transport.json("GET", "/compare/clock", params=params)["jobs"]
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
        params = {"jobs": _joined(job_ids), "from_step": from_step, "to_step": to_step, "limit": limit}
        result: CommonPrompts = self._transport.json("GET", "/compare/prompts", params=params)
        return result

    def export_metrics(self, job_ids: Sequence[str], keys: Sequence[str] | None = None) -> Iterator[bytes]:
        """The metrics of at most 50 jobs at every step as CSV, piece by piece, as they come."""
        params = {"jobs": _joined(job_ids), "keys": _joined(keys)}
        with self._transport.stream("/compare/export", headers={}, params=params, read_timeout=60) as response:
            yield from response.iter_bytes()

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

    def download_checkpoint(self, job_id: str, step: int, to: Path | str = ".") -> Path:
        """The checkpoint's model as a Hugging Face folder below `to`; the folder. AsymError 404 when it is gone."""
        return download.download_checkpoint(self._transport, job_id, step, Path(to))

    def export_checkpoint(
        self, job_id: str, step: int, to: Path | str, *, format: download.Format = "huggingface"
    ) -> Path:
        """The checkpoint as the folder `to`, new or empty: the whole model (a LoRA adapter merged into its base), or
        with `format="adapter"` the adapter alone. AsymError 409 where it cannot be had so."""
        return download.export_checkpoint(self._transport, job_id, step, Path(to), format)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        return list(self._all(f"/jobs/{job_id}/checkpoints", {}, None))

    # The platform

    def queue(self, *, limit: int | None = None) -> list[QueuedJob]:
        """The team's queued jobs, newest first, each with its place among those of all teams."""
        return list(self._all("/queue", {}, limit))

    def workers(self) -> list[Worker]:
        """Newest first, with their state and what they run; those that were lost stay for a day."""
        result: list[Worker] = self._transport.json("GET", "/workers")["data"]
        return result

    def models(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._transport.json("GET", "/models")["data"]
        return result

    def spec_schema(self) -> dict[str, Any]:
        """The JSON schema of what `create_job` takes, every field described; its references point into `$defs`."""
        document = self._transport.json("GET", "/openapi.json")
        asked = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schemas = json.dumps({**asked, "$defs": document["components"]["schemas"]})
        found: dict[str, Any] = json.loads(schemas.replace(_COMPONENTS, "#/$defs/"))
        return found

    def presets(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._transport.json("GET", "/presets")["data"]
        return result

    def me(self) -> Me:
        """The key in use and its role; its team, what it may use and what it uses."""
        result: Me = self._transport.json("GET", "/me")
        return result

    def ready(self) -> bool:
        """Whether /readyz answers 200 at this moment."""
        return self._transport.status_of("/readyz") == 200

    # Keys

    def create_key(
        self,
        name: str,
        *,
        role: RoleName = "member",
        member_id: str | None = None,
        scopes: Sequence[str] | None = None,
        expires_at: str | None = None,
    ) -> Key:
        """The answer holds the key itself under `key`: the only time it is shown.

        member_id: whose; the caller's own without it. expires_at: RFC 3339, with a time zone.
        """
        more = {"member_id": member_id, "scopes": None if scopes is None else list(scopes), "expires_at": expires_at}
        body = {"name": name, "role": role, **{key: value for key, value in more.items() if value is not None}}
        result: Key = self._transport.json("POST", "/keys", body=body)
        return result

    def rotate_key(self, key_id: str, *, grace_seconds: int = 0) -> Key:
        """A new key in the place of one, which ends at once or after the grace. The answer holds it under `key`."""
        result: Key = self._transport.json("POST", f"/keys/{key_id}/rotate", body={"grace_seconds": grace_seconds})
        return result

    def keys(self) -> list[Key]:
        return list(self._all("/keys", {}, None))

    def revoke_key(self, key_id: str) -> None:
        self._transport.json("DELETE", f"/keys/{key_id}")

    # Sweeps

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

    # Sampling

    def chat(self, model: str, messages: Sequence[Mapping[str, str]], **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Sample the next turn of a chat from `job/JOB_ID@STEP` or any model that a job may name: OpenAI's
        `chat.completion`. Options: those of OpenAI's request (n, max_tokens, temperature, top_p, stop, seed, ...), and
        verify={"kind": ..., "answer": ...}, after which each choice has {"asym": {"reward": ..., "error": ...}}."""
        return self._sample("/v1/chat/completions", {"model": model, "messages": list(messages)}, options)

    def complete(self, model: str, prompt: str | Sequence[str], **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Sample how a text goes on: OpenAI's `text_completion`. Options as of `chat`."""
        return self._sample("/v1/completions", {"model": model, "prompt": prompt}, options)

    def _sample(self, path: str, body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in options.items() if value is not None}
        if (verify := given.pop("verify", None)) is not None:
            given["asym"] = {"verify": verify}
        result: dict[str, Any] = self._transport.wait_for(path, body | given, seconds=SAMPLING_SECONDS)
        return result

    # The team

    def members(self) -> list[Member]:
        return list(self._all("/members", {}, None))

    def add_member(self, name: str, *, role: RoleName = "member", login: str | None = None) -> Member:
        """It can do something once it has a key (`create_key(..., member_id=...)`), or signs in under its login."""
        body = {"name": name, "role": role, **({} if login is None else {"login": login})}
        result: Member = self._transport.json("POST", "/members", body=body)
        return result

    def change_member(
        self, member_id: str, *, name: str | None = None, role: RoleName | None = None, login: str | None = None
    ) -> Member:
        """What is not None. An empty login ends signing in."""
        given = {"name": name, "role": role, "login": login}
        body = {key: value for key, value in given.items() if value is not None}
        result: Member = self._transport.json("PATCH", f"/members/{member_id}", body=body)
        return result

    def remove_member(self, member_id: str) -> None:
        """All its keys are refused from now on."""
        self._transport.json("DELETE", f"/members/{member_id}")

    def audit(self, *, limit: int | None = None) -> list[AuditEntry]:
        """Who did what, newest first."""
        return list(self._all("/audit", {}, limit))

    # Lists

    def _all(self, path: str, params: Mapping[str, Any], limit: int | None) -> Iterator[Any]:
        """Every object of a list, page by page, at most `limit` of them."""
        after: str | int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = self._transport.json("GET", path, params={**params, "limit": size, "after": after})
            yield from page["data"]
            after = page.get("next")
            if not page.get("has_more") or after is None:
                return
            if left is not None:
                left -= len(page["data"])


_COMPONENTS = "#/components/schemas/"


def _joined(names: Sequence[str] | None) -> str | None:
    return ",".join(names) if names else None
