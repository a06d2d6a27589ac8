"""/members: the people and programs of a team."""

from datetime import datetime
from typing import Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, model_validator

from api.auth import Admin, Caller
from api.openapi import example, problems
from api.paging import After, Limit, Page, page
from api.request_text import Login, Name
from api.state import State
from store import members
from store.access import Role
from store.models import Member

router = APIRouter(prefix="/members", tags=["team"], responses=problems())

_EXAMPLE = {
    "id": "member_01jz8xq9w8e7r6t5y4u3i2o1pb",
    "name": "ada",
    "role": "member",
    "login": "ada@example.com",
    "created_at": "2026-01-15T09:00:00Z",
}


class MemberIn(BaseModel):
    model_config = example({"name": "ada", "role": "member"}, extra="forbid")

    name: Name
    role: Role = Role.MEMBER
    login: Login | None = None
    """Under which name of the identity provider the member signs in (`POST /sign-in`); without it, by keys only."""


class MemberChange(BaseModel):
    """What is to be another; the rest stays."""

    model_config = example({"role": "admin"}, extra="forbid")

    name: Name | None = None
    role: Role | None = None
    login: Login | None = None
    """Empty: the member signs in by keys only."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and self.role is None and self.login is None:
            raise ValueError("name a new `name`, `role` or `login`")
        return self


class MemberOut(BaseModel):
    """A member. A key of it may never do more than its role."""

    model_config = example(_EXAMPLE)

    id: str
    name: str
    role: Role
    login: str | None
    created_at: datetime

    @classmethod
    def of(cls, member: Member) -> Self:
        return cls.model_validate(member, from_attributes=True)


@router.get("")
def list_members(state: State, caller: Caller, limit: Limit = 50, after: After = None) -> Page[MemberOut]:
    """The team's members, newest first."""
    with state.database.transaction() as session:
        rows = members.list_page(session, caller, limit + 1, after)
    return page(rows, limit, MemberOut.of, lambda member: member.id)


@router.post("", status_code=201, responses=problems(403, 409))
def add_member(wanted: MemberIn, state: State, admin: Admin, response: Response) -> MemberOut:
    """Add a member. It can do something once it has a key (`POST /keys` with its `member_id`) or signs in by its login.

    409 when another member has that login.
    """
    with state.database.transaction() as session:
        member = members.add(session, admin, wanted.name, wanted.role, wanted.login)
    response.headers["Location"] = f"/members/{member.id}"
    return MemberOut.of(member)


@router.patch("/{member_id}", responses=problems(403, 404, 409))
def change_member(member_id: str, change: MemberChange, state: State, admin: Admin) -> MemberOut:
    """Another name, role or login. A lower role holds for all of the member's keys at once; a higher one for new keys.

    409 when the team would be left without an admin, or another member has that login.
    """
    with state.database.transaction() as session:
        member = members.change(session, admin, member_id, name=change.name, role=change.role, login=change.login)
    return MemberOut.of(member)


@router.delete("/{member_id}", status_code=204, responses=problems(403, 404, 409))
def remove_member(member_id: str, state: State, admin: Admin) -> None:
    """Take a member out of the team: all its keys are refused from now on. Its jobs and data sets stay the team's.

    409 when the team would be left without an admin.
    """
    with state.database.transaction() as session:
        members.remove(session, admin, member_id)
