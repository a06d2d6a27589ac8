"""ETags: a poll that finds nothing new is a 304, and an edit of what has been edited since is a 412.

A list's tag stands for the versions of its rows, which the database reads off an index without the rows themselves.
What follows from the whole cluster, places in the queue and workers, has no such version: its tag stands for the
changes that this process has heard of, and for a few seconds of the clock, since some changes are told to nobody.
"""

import hashlib
import re
import time
from typing import Annotated, Any

from fastapi import Header, Response

from api.state import ApiState
from store.access import Identity

PASSES_SECONDS = 5.0
"""How old an answer about the whole cluster may be that is confirmed with a 304."""

IfNoneMatch = Annotated[
    str | None, Header(max_length=2000, description="The ETag of the answer you have: 304 when it still holds.")
]
IfMatch = Annotated[
    str | None,
    Header(
        max_length=2000,
        description="The ETag that you have seen: 412 when name, tags or notes were edited since. What else happens to "
        "a job meanwhile is no obstacle.",
    ),
]

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "What you have (`If-None-Match`) still holds."}}
"""For `responses=` of a route that answers with a tag."""

_EDITS = re.compile(r'\s*(?:W/)?"([0-9]{1,9})-[0-9a-f]*"\s*')
_PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}


def tag_of(identity: Identity, *parts: object) -> str:
    """A tag for what this identity is shown; it changes with any part."""
    return f'"{_digest(identity, *parts)}"'


def tag_of_edited(identity: Identity, edits: int, *parts: object) -> str:
    """The same for something that can be edited: the tag begins with the number of edits, which If-Match looks at."""
    return f'"{edits}-{_digest(identity, *parts)}"'


def moment(state: ApiState) -> tuple[object, ...]:
    """A part for a tag: what may have happened in the cluster."""
    return (state.started, state.feeds.heard, time.monotonic() // PASSES_SECONDS)


def holds(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller has it already."""
    if if_none_match is None:
        return False
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return tag in known or "*" in known


def not_modified(tag: str) -> Response:
    return Response(status_code=304, headers=headers(tag))


def headers(tag: str) -> dict[str, str]:
    """Of an answer with this tag."""
    return {"ETag": tag, **_PRIVATE}


def mark(response: Response, tag: str) -> None:
    """Give the answer its tag."""
    response.headers.update(headers(tag))


def seen_edits(if_match: str | None) -> list[int] | None:
    """The numbers of edits that the caller has seen; None when it does not matter to them."""
    if if_match is None or if_match.strip() == "*":
        return None
    return [int(found[1]) for each in if_match.split(",") if (found := _EDITS.fullmatch(each))]


def _digest(identity: Identity, *parts: object) -> str:
    # The role is in it because a key of another role may be shown something else.
    text = repr((identity.team_id, identity.role, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
