"""What a job leaves behind: metrics, events, log, rollouts, checkpoints."""

from typing import Any, Literal, NotRequired, TypedDict


class Series(TypedDict):
    step: list[int]
    value: list[Any]
    """float, int, None where undefined; for `group/histogram` a list of counts."""


class Metrics(TypedDict):
    keys: dict[str, Series]
    cursor: NotRequired[str]
    """Where `since` was given: what to give next time."""
    drop_after: NotRequired[int | None]
    """Where `since` was given: forget the points of later steps before these are put in; -1: all of them."""


class MetricRow(TypedDict):
    """What was measured at a step; it takes the place of what was there of the same step."""

    step: int
    attempt: int
    at: str
    values: dict[str, Any]
    cursor: str
    """`since` to go on behind it."""


class MetricsTakenBack(TypedDict):
    """An attempt went on from an earlier step: the points of later steps than `drop_after` are void."""

    drop_after: int
    cursor: str


class JobEvent(TypedDict):
    id: int
    at: str
    level: Literal["info", "warning", "error"]
    type: Literal["message", "state", "preflight", "step", "eval", "checkpoint"]
    message: str
    data: dict[str, Any]
    attempt: int


class LogLine(TypedDict):
    id: int
    attempt: int
    at: str
    line: str


class Rollout(TypedDict):
    step: int
    attempt: int
    group: int
    sample: int
    row: int
    prompt: str
    completion: str
    answer: str
    reward: float
    correct: bool
    advantage: float
    bonus: float | None
    tokens: int
    truncated: bool
    entropy: float | None
    token_entropies: list[float] | None
    """Nats, one per token; None without the spec's `diagnostics.token_entropies`."""
    token_ends: list[int] | None
    """Where each token ends in the completion, in characters."""


class Checkpoint(TypedDict):
    step: int
    attempt: int
    bytes: int
    score: float | None
    manifest_sha256: str
    created_at: str
    superseded_at: str | None
    """When a later attempt went on from an earlier step."""
    deleted_at: str | None
    """When its files were removed."""
