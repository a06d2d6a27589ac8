"""/jobs/{id}/rollouts, /logs and /checkpoints: what a job leaves behind, page by page."""

import re
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from api import conditional
from api.auth import Caller
from api.events.feed import News, StreamedEvent
from api.events.stream import (
    MEDIA_TYPE,
    Accept,
    EventStreamResponse,
    LastEventId,
    described,
    message,
    resumed_at,
)
from api.history.archive import ArchiveResponse, missing_files, model_archive
from api.history.formats import Format, exported
from api.openapi import example, problems
from api.paging import MAX_LIMIT, AfterNumber, Limit, Page, page
from api.problems import invalid
from api.state import ApiState, State
from store import job_history, jobs
from store.access import Identity
from store.models import Checkpoint, JobLog, Rollout
from store.status import TERMINAL

BIGGEST_STEP = 2**31 - 1

router = APIRouter(prefix="/jobs/{job_id}", tags=["history"], responses=problems(404))

_PLACE = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")


class RolloutOut(BaseModel):
    """One sampled response and what became of it."""

    model_config = example(
        {
            "step": 12,
            "group": 0,
            "sample": 3,
            "attempt": 1,
            "row": 481,
            "prompt": "12+34=",
            "completion": "46",
            "answer": "46",
            "reward": 1.0,
            "correct": True,
            "advantage": 0.56,
            "bonus": None,
            "tokens": 3,
            "truncated": False,
            "entropy": 0.42,
            "token_entropies": [0.9, 0.35, 0.01],
            "token_ends": [1, 2, 2],
        }
    )

    step: int
    group: int
    """Which prompt of the step, from 0."""
    sample: int
    """Which response of its group, from 0."""
    attempt: int
    row: int
    """The data set's row of the prompt, from 1."""
    prompt: str
    completion: str
    answer: str
    reward: float
    correct: bool
    advantage: float
    """What its tokens are weighted with, the bonus included."""
    bonus: float | None
    """Of reward.bonus, before it is centred in the group; null where the job has none."""
    tokens: int
    truncated: bool
    entropy: float | None
    """Mean true entropy over the response's tokens, nats; null for an empty response."""
    token_entropies: list[float] | None
    """True entropy of each token, nats; null unless the spec's `diagnostics.token_entropies` asks for them."""
    token_ends: list[int] | None
    """Where each token ends in `completion`, in characters (Unicode code points); null when `token_entropies` is."""

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        shown = {name: getattr(rollout, name) for name in cls.model_fields if name not in ("group", "sample")}
        return cls.model_validate({**shown, "group": rollout.group_index, "sample": rollout.sample_index})


class LogLineOut(BaseModel):
    """One line that the trainer or its worker wrote."""

    model_config = example({"id": 7, "attempt": 1, "at": "2026-01-15T09:31:04Z", "line": "step 3 of 60  reward 0.34"})

    id: int
    attempt: int
    at: datetime
    line: str

    @classmethod
    def of(cls, line: JobLog) -> Self:
        return cls.model_validate(line, from_attributes=True)


class CheckpointOut(BaseModel):
    """A checkpoint; `job/JOB_ID@STEP` names it as a model while it has neither been deleted nor superseded."""

    model_config = example(
        {
            "step": 20,
            "attempt": 1,
            "bytes": 3713024,
            "score": 0.41,
            "manifest_sha256": "5b9d3c0f3f3f1d4f1d6a0b2c9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f",
            "created_at": "2026-01-15T09:31:30Z",
            "superseded_at": None,
            "deleted_at": None,
        }
    )

    step: int
    attempt: int
    bytes: int
    score: float | None
    """The value of `checkpoint.keep_best` there; null when it was not measured."""
    manifest_sha256: str
    created_at: datetime
    superseded_at: datetime | None
    """A later attempt went on from an earlier step."""
    deleted_at: datetime | None
    """Its files are gone: the spec keeps only the last and the best ones."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        return cls.model_validate(checkpoint, from_attributes=True)


@router.get("/rollouts")
def list_rollouts(
    job_id: str,
    state: State,
    caller: Caller,
    step: Annotated[int | None, Query(ge=0, le=BIGGEST_STEP)] = None,
    correct: bool | None = None,
    limit: Limit = 50,
    after: Annotated[str | None, Query(max_length=40, description="`next` of the page before.")] = None,
) -> Page[RolloutOut]:
    """Responses with their rewards, by step, group and sample: those that the spec's `diagnostics` has stored."""
    with state.database.transaction() as session:
        rows = job_history.rollouts(
            session, caller, job_id, step=step, correct=correct, after=_place(after), limit=limit + 1
        )
    return page(rows, limit, RolloutOut.of, lambda row: f"{row.step}.{row.group_index}.{row.sample_index}")


@router.get(
    "/logs",
    response_model=Page[LogLineOut],
    responses=described("lines", 'id: 7\nevent: line\ndata: {"id":7,"line":"step 3 of 60",...}'),
)
async def list_logs(
    job_id: str,
    state: State,
    caller: Caller,
    limit: Limit = 500,
    after: AfterNumber = 0,
    tail: Annotated[
        int | None,
        Query(
            ge=1, le=MAX_LIMIT, description="The newest so many, whatever `limit` and `after` say. Not for a stream."
        ),
    ] = None,
    accept: Accept = "",
    last_event_id: LastEventId = None,
) -> Page[LogLineOut] | Response:
    """What the job wrote, oldest first."""
    if MEDIA_TYPE not in accept:
        if tail is not None:
            return await run_in_threadpool(_last_lines, state, caller, job_id, tail)
        return await run_in_threadpool(_lines, state, caller, job_id, after, limit)
    start = resumed_at(last_event_id, after)
    # Before the stream begins, so that a job that is not there is a 404.
    await run_in_threadpool(_lines, state, caller, job_id, start, 1)

    def read(after: int, limit: int) -> News:
        return _new_lines(state, caller, job_id, after, limit)

    return EventStreamResponse(state.feeds.follow(job_id, read, start, "logs"))


@router.get("/checkpoints")
def list_checkpoints(
    job_id: str,
    state: State,
    caller: Caller,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=-1, le=BIGGEST_STEP, description="`next` of the page before.")] = -1,
) -> Page[CheckpointOut]:
    """By step; those that were deleted or superseded are listed too, and say so."""
    with state.database.transaction() as session:
        rows = [row for row in job_history.checkpoints(session, caller, job_id) if row.step > after]
    return page(rows, limit, CheckpointOut.of, lambda row: row.step)


@router.get(
    "/checkpoints/{step}/download",
    response_class=Response,
    responses={
        200: {
            "description": "An uncompressed tar archive of one folder.",
            "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}, "example": "(binary)"}},
        },
        **conditional.NOT_MODIFIED,
        **problems(409),
    },
)
def download_checkpoint(
    job_id: str,
    step: Annotated[int, Path(ge=0, le=BIGGEST_STEP)],
    state: State,
    caller: Caller,
    wanted: Annotated[Format | None, Query(alias="format")] = None,
    if_none_match: conditional.IfNoneMatch = None,
) -> Response:
    """A checkpoint's model as a Hugging Face folder: config, safetensors, tokenizer; of LoRA, the adapter as stored.

    `format=huggingface` (or `merged`) is the whole model, with a LoRA adapter merged into its base; `format=adapter`
    the adapter alone, for peft. 404 for checkpoints that were deleted or superseded, 409 where it cannot be had in the
    format asked for. The archive streams straight from the files.
    """
    with state.database.transaction() as session:
        checkpoint = job_history.usable_checkpoint(session, caller, job_id, step)
    tag = f'"{checkpoint.manifest_sha256}{"" if wanted is None else f"-{wanted}"}"'
    if conditional.holds(if_none_match, tag):
        return conditional.not_modified(tag)
    name = f"{job_id}-step{step}"
    with missing_files(job_id, step):
        archive = (
            model_archive(state.artifacts, checkpoint, name)
            if wanted is None
            else exported(state, checkpoint, name, wanted)
        )
    response = ArchiveResponse(archive, f"{name}.tar")
    conditional.mark(response, tag)
    return response


def _lines(state: ApiState, identity: Identity, job_id: str, after: int, limit: int) -> Page[LogLineOut]:
    with state.database.transaction() as session:
        rows = job_history.logs_after(session, identity, job_id, after, limit + 1)
    return page(rows, limit, LogLineOut.of, lambda line: line.id)


def _last_lines(state: ApiState, identity: Identity, job_id: str, count: int) -> Page[LogLineOut]:
    with state.database.transaction() as session:
        rows = job_history.logs_last(session, identity, job_id, count)
    return page(rows, count, LogLineOut.of, lambda line: line.id)


def _new_lines(state: ApiState, identity: Identity, job_id: str, after: int, limit: int) -> News:
    with state.database.transaction() as session:
        # The status first: when it is final, every line of the job has been committed before it was read.
        status = jobs.get(session, identity, job_id).status
        rows = job_history.logs_after(session, identity, job_id, after, limit)
    lines = [
        StreamedEvent(row.id, message(LogLineOut.of(row).model_dump(mode="json"), event="line", event_id=row.id))
        for row in rows
    ]
    return News(lines, status.value if status in TERMINAL and len(rows) < limit else None)


def _place(after: str | None) -> tuple[int, int, int] | None:
    if after is None:
        return None
    found = _PLACE.fullmatch(after)
    if found is None:
        raise invalid(["query", "after"], "not a `next` of this list")
    step, group, sample = map(int, found.groups())
    return step, group, sample
