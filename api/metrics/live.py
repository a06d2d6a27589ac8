"""A job's metrics as server-sent events, through the feeds that the event streams use (api.events.feed)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.concurrency import run_in_threadpool

from api.events.feed import News, StreamedEvent
from api.events.stream import message
from api.state import ApiState
from store import jobs
from store.access import Identity
from store.metrics import changes, reading
from store.metrics.changes import Row, TakenBack
from store.metrics.selection import Selection
from store.status import TERMINAL
from store.tenancy import serving


async def open_stream(
    state: ApiState, identity: Identity, job_id: str, selection: Selection, since: int | None
) -> AsyncGenerator[bytes, None]:
    """The messages behind the revision `since`; None: of what is written from now on. NotFound when it is not there."""
    # Before the stream begins, so that a job that is not there is a 404.
    now = await run_in_threadpool(_revision, state, identity, job_id)
    start = now if since is None else since

    def read(after: int, limit: int) -> News:
        return _news(state, identity, job_id, selection, after, limit)

    async def messages() -> AsyncGenerator[bytes, None]:
        # With an id, so that a stream that breaks off before its first row goes on from here, too.
        yield message({"cursor": str(start)}, event="start", event_id=start)
        async with aclosing(state.feeds.follow(job_id, read, start, f"metrics {selection}")) as followed:
            async for each in followed:
                yield each

    return messages()


def _revision(state: ApiState, identity: Identity, job_id: str) -> int:
    with state.database.transaction() as session:
        return reading.heads(session, identity, [job_id])[0].revision


def _news(state: ApiState, identity: Identity, job_id: str, selection: Selection, after: int, limit: int) -> News:
    # A feed reads on its own, outside of any request.
    with serving(identity.team_id), state.database.transaction() as session:
        # The status first: when it is final, every row of the job has been committed before it was read.
        status = jobs.get(session, identity, job_id).status
        changed = changes.after(session, job_id, after, limit)
    events = [StreamedEvent(each.revision, _wire(each, selection)) for each in changed]
    return News(events, status.value if status in TERMINAL and len(changed) < limit else None)


def _wire(change: Row | TakenBack, selection: Selection) -> bytes:
    if isinstance(change, TakenBack):
        return message({"drop_after": change.kept}, event="superseded", event_id=change.revision)
    values = {key: change.values[key] for key in change.values if key in selection}
    row = {"step": change.step, "attempt": change.attempt, "at": change.at.isoformat(), "values": values}
    return message(row, event="metrics", event_id=change.revision)
