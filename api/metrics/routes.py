"""/jobs/{id}/metrics, asked once, again and again with `since`, or as a stream; and /compare."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool

from api.auth import Caller
from api.conditional import NOT_MODIFIED, IfNoneMatch
from api.events.stream import EventStreamResponse
from api.metrics import live
from api.metrics.answers import Question, answer
from api.metrics.schemas import Comparison, MetricsOut
from api.openapi import problems
from api.paging import BIGGEST_ID
from api.problems import invalid
from api.state import State
from store.metrics.curve import FEWEST
from store.metrics.selection import Selection

BIGGEST_STEP = 2**31 - 1
MOST_JOBS = 50

Keys = Annotated[
    str | None,
    Query(max_length=10_000, description="Comma list; `ent/*` is every key that begins so. Without it: all keys."),
]
Step = Annotated[int | None, Query(ge=0, le=BIGGEST_STEP)]
MaxPoints = Annotated[
    int,
    Query(
        ge=FEWEST,
        le=1_000_000,
        description="Longer series are thinned out; the extremes of every stretch stay, and so do nulls.",
    ),
]
Since = Annotated[
    str | None,
    Query(
        max_length=1100,
        description="`cursor` of the answer before: only what has changed since. `0` for the first, which is whole.",
    ),
]
JobIds = Annotated[str, Query(min_length=1, max_length=4000, description="Comma list of job ids.")]
Thinned = Annotated[
    Literal["extremes", "same_steps"],
    Query(
        description="What is kept of longer series. `extremes`: the lowest and the highest value of every stretch. "
        "`same_steps`: the first value of every stretch, at the same steps of all runs, for means over them."
    ),
]

router = APIRouter(tags=["metrics"], responses=problems(404))

_STREAM = {
    "description": "The columns; or, with `Accept: text/event-stream`, rows as they are written, each with its cursor "
    "as the message's id. It begins behind `Last-Event-ID` or `since`, else with what is written from now on. "
    "`event: superseded`: forget the points of later steps than `drop_after`. `event: end` follows the last row of "
    "a job that has ended.",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'id: 8123\nevent: start\ndata: {"cursor":"8123"}\n\n'
            'id: 8124\nevent: metrics\ndata: {"step":61,"attempt":1,'
            '"at":"2026-11-24T03:00:00+00:00","values":{"reward/mean":0.34}}\n\n'
            'id: 8125\nevent: superseded\ndata: {"drop_after":60}\n\n'
            'event: end\ndata: {"status":"succeeded"}\n\n',
        }
    },
}


@router.get("/jobs/{job_id}/metrics", response_model=MetricsOut, responses={200: _STREAM, **NOT_MODIFIED})
async def get_metrics(
    job_id: str,
    state: State,
    caller: Caller,
    keys: Keys = None,
    from_step: Step = None,
    to_step: Step = None,
    max_points: MaxPoints = 2000,
    since: Since = None,
    if_none_match: IfNoneMatch = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[
        str | None, Header(description="Of a stream that broke off: go on after this message (instead of `since`).")
    ] = None,
) -> Response:
    """The job's metrics, a column of steps and one of values per key. Step 0 is before training."""
    seen = None if since is None else _revisions(since, 1, ["query", "since"])
    if "text/event-stream" in accept:
        start = _revisions(last_event_id, 1, ["header", "last-event-id"]) if last_event_id else seen
        messages = await live.open_stream(state, caller, job_id, Selection.parse(keys), start[0] if start else None)
        return EventStreamResponse(messages)
    question = Question((job_id,), Selection.parse(keys), max_points, from_step, to_step, seen)
    return await run_in_threadpool(answer, state, caller, question, if_none_match)


@router.get("/compare", response_model=Comparison, responses=NOT_MODIFIED)
def compare_jobs(
    state: State,
    caller: Caller,
    jobs: JobIds,
    keys: Keys = None,
    max_points: MaxPoints = 500,
    since: Since = None,
    from_step: Step = None,
    to_step: Step = None,
    thinned: Thinned = "extremes",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The same metrics of several jobs, to lay over one another."""
    ids = named(jobs)
    seen = None if since is None else _revisions(since, len(ids), ["query", "since"])
    same_steps = thinned == "same_steps"
    question = Question(ids, Selection.parse(keys), max_points, from_step, to_step, seen, True, same_steps)
    return answer(state, caller, question, if_none_match)


def named(jobs: str) -> tuple[str, ...]:
    """The ids of a comma list, each once."""
    ids = tuple(dict.fromkeys(part for each in jobs.split(",") if (part := each.strip())))
    if not 1 <= len(ids) <= MOST_JOBS:
        raise invalid(["query", "jobs"], f"name 1 to {MOST_JOBS} jobs, got {len(ids)}")
    return ids


def _revisions(cursor: str, jobs: int, loc: list[str | int]) -> tuple[int, ...]:
    """What a cursor says of each job; `0` alone says it of all."""
    parts = cursor.split(",") if cursor != "0" else ["0"] * jobs
    if len(parts) != jobs or not all(part.isascii() and part.isdigit() and int(part) <= BIGGEST_ID for part in parts):
        raise invalid(loc, "not the cursor of an answer" + ("" if jobs == 1 else " about these jobs"))
    return tuple(map(int, parts))
