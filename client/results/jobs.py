"""Jobs, what is asked before one is made, and the queue."""

from typing import Any, Literal, NotRequired, TypedDict

Status = Literal["queued", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed"]
TERMINAL: frozenset[str] = frozenset({"cancelled", "succeeded", "failed"})
"""Statuses that never change again."""


class Progress(TypedDict):
    step: int
    steps: int
    seconds_per_step: float | None
    eta_seconds: float | None


class Failure(TypedDict):
    kind: Literal["user", "infrastructure"]
    code: str
    message: str
    evidence: list[str]


class PauseReason(TypedDict):
    code: str
    message: str


class QueueInfo(TypedDict):
    position: int
    """1 is next."""
    wait_reason: str
    """In words."""
    code: str
    """The same for programs: starting, slots_taken, team_gpu_limit, ... (docs/queue.md)."""
    eta_seconds: float | None


class Job(TypedDict):
    id: str
    name: str
    status: Status
    attempt: int
    max_attempts: int
    """So many may be lost to the infrastructure."""
    created_at: str
    started_at: str | None
    finished_at: str | None
    progress: Progress
    failure: Failure | None
    pause_reason: PauseReason | None
    """Of a job that the platform paused by itself."""
    queue: QueueInfo | None
    """Of a queued job; lists leave it out."""
    cloned_from: str | None
    """The job whose spec it was made of."""
    retry_of: str | None
    """The ended job that it goes on for."""
    model: str
    preset: str
    labels: list[str]
    """What it asks of a worker."""
    tags: list[str]
    accuracy: float | None
    """Of the last step's rollouts."""
    used_seconds: float
    """On workers, of all attempts."""
    gpu_seconds: float
    """The same, each second as often as it held GPUs; 0 on CPUs."""
    created_by: str
    owner: str
    """The name of the key `created_by`."""
    notes: NotRequired[str]
    """Lists leave it out, too."""
    spec: NotRequired[dict[str, Any]]
    """The resolved spec; lists leave it out."""
    preflight: NotRequired[dict[str, Any] | None]
    """What rollouts told before the first step; lists leave it out."""


class Estimate(TypedDict):
    """What a job will take, told from the team's own last runs of the same model."""

    seconds_per_step: float
    seconds: float
    gpu_hours: float
    runs: list[str]
    scaled: bool


class Validation(TypedDict):
    """What creating the job would give."""

    spec: dict[str, Any]
    """Resolved: the preset and every default filled in."""
    queue: QueueInfo
    estimate: Estimate | None
    """None where the team has measured no step of this model yet."""
    warnings: list[str]


class QueuedJob(TypedDict):
    id: str
    name: str
    priority: int
    queued_at: str
    queue: QueueInfo
