"""/jobs/{id}/events: polled with `?after=`, or streamed as server-sent events to whoever accepts text/event-stream."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

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
from api.openapi import example, problems
from api.paging import AfterNumber, Limit, Page, page
from api.state import ApiState, State
from store import job_history, jobs
from store.access import Identity
from store.journal import EventType
from store.models import JobEvent
from store.status import TERMINAL
from store.tenancy import serving

router = APIRouter(tags=["events"], responses=problems(404))

_EVENT_EXAMPLE = {
    "id": 412,
    "attempt": 1,
    "at": "2026-01-15T09:31:04Z",
    "level": "info",
    "type": "step",
    "message": "step 3 of 60",
    "data": {"step": 3, "metrics": {"reward/mean": 0.34}},
}


class EventOut(BaseModel):
    """One entry of a job's journal. Ids grow in the order in which a job's events were committed."""

    model_config = example(_EVENT_EXAMPLE)

    id: int
    attempt: int
    at: datetime
    level: Literal["info", "warning", "error"]
    type: EventType
    message: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        return cls.model_validate(event, from_attributes=True)


_STREAM = described("events", 'id: 412\nevent: step\ndata: {"id":412,"type":"step",...}')


@router.get("/jobs/{job_id}/events", response_model=Page[EventOut], responses=_STREAM)
async def list_events(
    job_id: str,
    state: State,
    caller: Caller,
    limit: Limit = 200,
    after: AfterNumber = 0,
    type: Annotated[
        list[EventType] | None,
        Query(max_length=6, description="Any of these; repeat it for several. A stream has them all."),
    ] = None,
    accept: Accept = "",
    last_event_id: LastEventId = None,
) -> Page[EventOut] | Response:
    """What happened to the job, oldest first: state changes, steps, evaluations, checkpoints, messages."""
    if MEDIA_TYPE not in accept:
        return await run_in_threadpool(_poll, state, caller, job_id, after, limit, tuple(type or ()))
    start = resumed_at(last_event_id, after)
    # Before the stream begins, so that a job that is not there is a 404.
    await run_in_threadpool(_poll, state, caller, job_id, start, 1)

    def read(after: int, limit: int) -> News:
        return _news(state, caller, job_id, after, limit)

    return EventStreamResponse(state.feeds.follow(job_id, read, start))


def _poll(
    state: ApiState, identity: Identity, job_id: str, after: int, limit: int, types: Collection[EventType] = ()
) -> Page[EventOut]:
    with state.database.transaction() as session:
        rows = job_history.events_after(session, identity, job_id, after, limit + 1, types)
    return page(rows, limit, EventOut.of, lambda event: event.id)


def _news(state: ApiState, identity: Identity, job_id: str, after: int, limit: int) -> News:
    # A feed reads on its own, outside of any request.
    with serving(identity.team_id), state.database.transaction() as session:
        # The status first: when it is final, every event of the job has been committed before it was read.
        status = jobs.get(session, identity, job_id).status
        rows = job_history.events_after(session, identity, job_id, after, limit)
    events = [
        StreamedEvent(row.id, message(EventOut.of(row).model_dump(mode="json"), event=row.type, event_id=row.id))
        for row in rows
    ]
    return News(events, status.value if status in TERMINAL and len(rows) < limit else None)
