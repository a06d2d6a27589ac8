"""/jobs/{id}/rollouts, /logs and /checkpoints: what a job leaves behind, page by page."""

import re
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.auth import Caller
from api.openapi import example, problems
from api.paging import AfterNumber, Limit, Page, page
from api.problems import invalid
from api.state import State
from store import job_history
from store.models import Checkpoint, JobLog, Rollout

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


@router.get("/logs")
def list_logs(
    job_id: str, state: State, caller: Caller, limit: Limit = 500, after: AfterNumber = 0
) -> Page[LogLineOut]:
    """What the job wrote, oldest first."""
    with state.database.transaction() as session:
        rows = job_history.logs_after(session, caller, job_id, after, limit + 1)
    return page(rows, limit, LogLineOut.of, lambda line: line.id)


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


def _place(after: str | None) -> tuple[int, int, int] | None:
    if after is None:
        return None
    found = _PLACE.fullmatch(after)
    if found is None:
        raise invalid(["query", "after"], "not a `next` of this list")
    step, group, sample = map(int, found.groups())
    return step, group, sample
