# Generated from client/_async/team.py by `./dev sdk`; edit it there.
"""The team: its members, their keys, and who did what."""

from collections.abc import Sequence
from typing import Literal

from client._sync.calls import Calls
from client.results import AuditEntry, Key, Member

RoleName = Literal["viewer", "member", "admin"]


class Team(Calls):
    """Part of `Asym`."""

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
        return self._listed("/keys", {}, None)

    def revoke_key(self, key_id: str) -> None:
        self._transport.json("DELETE", f"/keys/{key_id}")

    def members(self) -> list[Member]:
        return self._listed("/members", {}, None)

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
        return self._listed("/audit", {}, limit)
