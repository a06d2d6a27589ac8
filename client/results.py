"""The JSON objects that the API answers with, as types. Times are RFC 3339 text; a null is a None, never a 0.

They describe what arrives; nothing is checked or converted, so a newer server's extra keys do no harm.
"""

from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

Status = Literal["queued", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed"]
TERMINAL: frozenset[str] = frozenset({"cancelled", "succeeded", "failed"})
"""Statuses that never change again."""

Item = TypeVar("Item")


class Page(TypedDict, Generic[Item]):
    data: list[Item]
    has_more: bool
    next: str | int | None
    """What to pass as `after` for the next page; None when there is none."""


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


class Lengths(TypedDict):
    """Quantiles are values that occur (nearest rank)."""

    min: int
    median: int
    p95: int
    max: int
    mean: float


class DatasetStatistics(TypedDict):
    """What the rows of a data set are like."""

    prompt_characters: Lengths
    answer_characters: Lengths
    duplicate_prompts: int
    """Rows whose prompt an earlier row has."""
    chats: int
    answer_kinds: dict[str, int]
    row_kinds: dict[str, int]


class PromptTokens(TypedDict):
    model: str
    rows: int
    prompt_tokens: Lengths
    over_512: int


class Dataset(TypedDict):
    id: str
    name: str
    version: int
    """Of this name, 1 for its first upload."""
    filename: str
    format: Literal["jsonl", "csv", "parquet"]
    columns: list[str]
    """The columns that hold the prompts and the answers."""
    column_mapping: dict[str, str | None]
    """What the uploader named as prompt and answer."""
    rows: int
    bytes: int
    sha256: str
    created_at: str
    statistics: DatasetStatistics | None


class Series(TypedDict):
    step: list[int]
    value: list[Any]
    """float, int, None where undefined; for `group/histogram` a list of counts."""


class Member(TypedDict):
    id: str
    name: str
    role: Literal["viewer", "member", "admin"]
    login: str | None
    """Under which name the member signs in at the identity provider; None: by keys only."""
    created_at: str


class AuditEntry(TypedDict):
    id: int
    at: str
    key_id: str | None
    member_id: str | None
    address: str
    action: str
    object: str
    status: int
    reason: str | None


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


class ComparedJob(TypedDict):
    name: str
    status: Status
    keys: dict[str, Series]
    drop_after: NotRequired[int | None]
    """Of an answer to `since`: forget the points of later steps, then put in those of `keys`."""


class Comparison(TypedDict):
    jobs: dict[str, ComparedJob]
    """By id, in the order in which they were asked for."""
    cursor: NotRequired[str | None]
    """What to send as `since` next time, with the same jobs."""


class ComparedRun(Job):
    """A job as it is compared: `spec` is there."""

    keys: list[str]
    """Of what it measured."""
    gpus: int | None
    """What it asks for; 0 is a CPU, None is one GPU where there is any."""


class Clock(TypedDict):
    """What a run had taken by the end of step `step[i]`, in seconds."""

    step: list[int]
    wall_seconds: list[float]
    trained_seconds: list[float]


class CommonPrompt(TypedDict):
    """A row of the training data and what each run made of it, in the order of the jobs."""

    row: int
    prompt: str
    samples: list[int]
    correct: list[int]
    reward: list[float]


class CommonPrompts(TypedDict):
    jobs: list[str]
    prompts: list[CommonPrompt]
    has_more: bool


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


class Device(TypedDict):
    """A GPU of a worker; None for what it could not read."""

    name: str | None
    memory_gb: int | None


class RunningJob(TypedDict):
    id: str
    name: str
    gpus: int


class Worker(TypedDict):
    id: str
    name: str
    host: str
    state: Literal["alive", "draining", "lost"]
    gpus: int
    cpu_slots: int
    devices: list[Device]
    labels: list[str]
    busy_gpus: int
    """Of everyone's jobs; and the next."""
    busy_cpu_slots: int
    jobs: list[RunningJob]
    """The caller's team's."""
    kept_for: int | None
    """GPUs of the waiting job that its GPUs are kept free for."""
    version: str
    started_at: str
    heartbeat_at: str


class TeamLimits(TypedDict):
    """None is as much as there is."""

    running_gpus: int | None
    queued_jobs: int | None
    gpu_hours: int | None
    disk_bytes: int | None


class TeamUse(TypedDict):
    running_gpus: int
    queued_jobs: int
    gpu_hours: float
    disk_bytes: int
    recent_gpu_seconds: float
    recent_cpu_seconds: float


class Me(TypedDict):
    key_id: str
    key_name: str
    team_id: str
    team_name: str
    role: Literal["viewer", "member", "admin"]
    member_id: str
    scopes: list[str]
    expires_at: str | None
    limits: TeamLimits
    used: TeamUse


class DatasetRow(TypedDict):
    row: int
    prompt: str | list[dict[str, str]]
    answer: str
    kind: str | None


class SweepSummary(TypedDict):
    id: str
    name: str
    created_at: str
    members: int
    statuses: dict[str, int]
    """How many of its jobs have which status."""
    ended_because: str | None


class SweepMember(TypedDict):
    number: int
    job_id: str | None
    """None when it was deleted."""
    name: str | None
    status: Status | None
    step: int | None
    steps: int | None
    point: dict[str, Any]
    """What it has of its own, by path."""
    seed: int
    last: float | None
    best: float | None
    best_step: int | None
    stopped_because: str | None
    """Why the sweep's rule ended it early."""


class Combination(TypedDict):
    """Members that differ in their seeds only: means, and standard deviations over them."""

    point: dict[str, Any]
    members: int
    measured: int
    last: float | None
    last_spread: float | None
    best: float | None
    best_spread: float | None


class Sweep(SweepSummary):
    plan: dict[str, Any]
    metric: str
    used_hours: float
    jobs: list[SweepMember]
    combinations: list[Combination]
    """The best first."""


class TeamOfMine(TypedDict):
    id: str
    name: str
    role: Literal["viewer", "member", "admin"]


class SignedIn(TypedDict):
    teams: list[TeamOfMine]
    """All that one belongs to."""
    key: "Key | None"
    """None when there are several teams and none was chosen."""


class Key(TypedDict):
    id: str
    name: str
    prefix: str
    member_id: str
    role: Literal["viewer", "member", "admin"]
    scopes: list[str] | None
    """What it was narrowed to; None: all that its role may do."""
    created_at: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None
    rotated_from: str | None
    key: NotRequired[str]
    """The key itself, only in the answer that made it."""


class Webhook(TypedDict):
    id: str
    name: str
    url: str
    events: list[str]
    tags: list[str]
    """Only of jobs that have all of these."""
    active: bool
    switched_off_because: str | None
    failing_since: str | None
    old_secret_until: str | None
    created_at: str
    secret: NotRequired[str]
    """`whsec_...`, only in the answer that made it."""


class Delivery(TypedDict):
    """Something that a webhook is to be told, and how that went."""

    id: int
    event: str
    job_id: str | None
    status: Literal["pending", "delivered", "failed"]
    tries: int
    due_at: str | None
    tried_at: str | None
    delivered_at: str | None
    answer: int | None
    error: str | None
    created_at: str
    data: dict[str, Any]
