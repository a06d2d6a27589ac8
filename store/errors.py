"""What a repository raises, named by what is the case.

The API turns each into one HTTP status; the worker reacts to LeaseLost.
"""

from typing import Literal, TypedDict


class StoreError(Exception):
    """Base of every error below."""


class FieldProblem(TypedDict):
    """One problem of a request, as problem+json lists it."""

    loc: list[str | int]
    msg: str


class NotFound(StoreError):  # noqa: N818
    """There is no such object, or it belongs to another team (the two look the same from outside)."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"no {kind} {id!r}")
        self.kind = kind
        self.id = id


class Conflict(StoreError):  # noqa: N818
    """The object is in a state that does not allow this."""


class Stale(StoreError):  # noqa: N818
    """The object was changed since the caller looked at it."""


class Forbidden(StoreError):  # noqa: N818
    """The key's role does not allow this."""


class LimitReached(StoreError):  # noqa: N818
    """The team has as much as it may have; the message says of what, and what to do."""

    def __init__(self, limit: Literal["queued_jobs", "disk_bytes", "samplings"], message: str) -> None:
        super().__init__(message)
        self.limit = limit


class LeaseLost(StoreError):  # noqa: N818
    """This attempt no longer holds the job: another one has it, or it ended. Nothing was written."""


class Invalid(StoreError):  # noqa: N818
    """The request names things that do not exist or do not fit; each with its place."""

    def __init__(self, errors: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors))
        self.errors = errors


class SettingsError(StoreError):
    """A setting is missing or wrong; the message says which and what to do."""


class UnsafePath(StoreError):  # noqa: N818
    """A path that would leave the artifact folder."""
