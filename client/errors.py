"""What can go wrong between a caller and the API, told so that a person can act on it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

SHOWN = 20
"""How many of the single errors `str()` lists; all of them are in `.errors`."""


class AsymError(Exception):
    """The API's refusal: an RFC 9457 problem with its HTTP status and one entry per wrong field or line."""

    def __init__(
        self,
        title: str,
        *,
        status: int | None = None,
        detail: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        error_count: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        """HTTP status; None when no answer came."""
        self.title = title
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        """`{loc, msg}` of a field, or `{line, field, msg}` of a data set's line."""
        self.error_count = len(self.errors) if error_count is None else error_count
        self.retry_after = retry_after
        """For how many seconds the server asks to be left alone, where it does."""
        super().__init__(title)

    @classmethod
    def from_problem(cls, status: int, problem: Mapping[str, Any], *, retry_after: float | None = None) -> "AsymError":
        errors = problem.get("errors")
        return cls(
            str(problem.get("title") or f"HTTP {status}"),
            status=status,
            detail=str(problem["detail"]) if problem.get("detail") else None,
            errors=errors if isinstance(errors, list) else (),
            error_count=problem.get("error_count"),
            retry_after=retry_after,
        )

    def __str__(self) -> str:
        head = self.title if self.status is None else f"{self.title} ({self.status})"
        # The API repeats the first errors in the detail, for readers who see nothing else.
        repeats = self.detail is not None and any(str(error.get("msg")) in self.detail for error in self.errors)
        if self.detail and self.detail != self.title and not repeats:
            head = f"{head}: {self.detail}"
        lines = [head, *(f"  {where(error)}{error.get('msg', '')}" for error in self.errors[:SHOWN])]
        if self.error_count > SHOWN:
            lines.append(f"  … and {self.error_count - SHOWN} more")
        return "\n".join(lines)


class Unreachable(AsymError):  # noqa: N818 (named for what happened, like httpx.TimeoutException)
    """No answer: nothing listens there, the connection broke, or it took too long."""


class NoCredentials(AsymError):  # noqa: N818 (see above)
    """Neither the environment nor ASYM_HOME says which API to use, or with which key."""


def problem_of(response: "httpx.Response", *, retry_after: float | None = None) -> AsymError:
    """The exception for an answer that is no success, whether it holds a problem document or a proxy's page."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": response.reason_phrase, "detail": response.text[:200].strip()}
    return AsymError.from_problem(response.status_code, problem, retry_after=retry_after)


def where(error: Mapping[str, Any]) -> str:
    """The place an error entry speaks of, as `data.train: ` or `line 7, answer: `; empty when it names none."""
    if error.get("line") is not None:
        field = f", {error['field']}" if error.get("field") else ""
        return f"line {error['line']}{field}: "
    loc = error.get("loc") or []
    parts = [loc] if isinstance(loc, str) else [str(part) for part in loc]
    if parts and parts[0] in ("body", "query", "path", "header"):
        parts = parts[1:]
    return f"{'.'.join(parts)}: " if parts else ""
