"""ETags: a poll that finds nothing new is a 304."""

import hashlib
from typing import Annotated, Any

from fastapi import Header

from store.access import Identity

IfNoneMatch = Annotated[
    str | None, Header(max_length=2000, description="The ETag of the answer you have: 304 when it still holds.")
]

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "What you have (`If-None-Match`) still holds."}}
"""For `responses=` of a route that answers with a tag."""


def tag_of(identity: Identity, *parts: object) -> str:
    """A tag for what this identity is shown; it changes with any part."""
    text = repr((identity.team_id, identity.role, *parts))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def holds(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller has it already."""
    if if_none_match is None:
        return False
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return tag in known or "*" in known
