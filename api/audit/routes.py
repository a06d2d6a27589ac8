"""/audit: who did what in the team."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.auth import Admin
from api.openapi import example, problems
from api.paging import BIGGEST_ID, Limit, Page, page
from api.state import State
from store import audit
from store.models import AuditEntry

router = APIRouter(tags=["team"], responses=problems(403))

Before = Annotated[int | None, Query(ge=1, le=BIGGEST_ID, description="`next` of the page before.")]


class AuditEntryOut(BaseModel):
    """A write, however it ended, or a key that was refused."""

    model_config = example(
        {
            "id": 91,
            "at": "2026-01-15T09:31:04Z",
            "key_id": "key_01jz8xq9w8e7r6t5y4u3i2o1pa",
            "member_id": "member_01jz8xq9w8e7r6t5y4u3i2o1pb",
            "address": "192.0.2.7",
            "action": "cancel_job",
            "object": "job_01jz8xa1b2c3d4e5f6g7h8j9km",
            "status": 200,
            "reason": None,
        }
    )

    id: int
    at: datetime
    key_id: str | None
    member_id: str | None
    address: str
    action: str
    """The operation's id in this document; authenticate for a key that was refused."""
    object: str
    """The id of what it was done to, or of what it made; else the path."""
    status: int
    """The HTTP status of the answer."""
    reason: Literal["unknown", "revoked", "expired", "removed"] | None
    """Why a key was refused."""

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls.model_validate(entry, from_attributes=True)


@router.get("/audit")
def list_audit(state: State, admin: Admin, limit: Limit = 100, after: Before = None) -> Page[AuditEntryOut]:
    """The team's audit log, newest first."""
    with state.database.transaction() as session:
        rows = audit.list_page(session, admin, limit + 1, after)
    return page(rows, limit, AuditEntryOut.of, lambda entry: entry.id)
