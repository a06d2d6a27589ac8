"""What a trainer says while it runs: one JSON object per line, in the order in which things happened.

The trainer writes them (stdout of `python -m trainer`), the worker reads them into the database. The order is part of
the contract: the `step` and `eval` events of every step up to a checkpoint come before that `checkpoint` event, so a
reader that has stored a checkpoint has stored everything that the checkpoint builds upon.
"""

import errno
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Metrics = dict[str, float | int | list[int] | None]
"""Metric key (see `trainer.spec.metric_keys`) -> value; null where it is undefined, never 0. Only
`group/histogram` is a list."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    time: float
    """Seconds since the epoch, by the trainer's clock."""


class Started(_Event):
    """The model is loaded and training begins after step `resumed_from` (0: from the beginning)."""

    type: Literal["started"] = "started"
    resumed_from: int
    steps: int
    device: str
    parameters: int
    prompts: int
    """How many training prompts are left after dropping those over the limit."""
    prompts_dropped: int


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoGradient(_Part):
    """Of the groups that the job would train on, the share that gives no gradient."""

    share: float
    low: float
    high: float
    """95 % Wilson interval, the sampled groups taken for independent."""
    groups: int
    """How many were sampled: disjoint ones of `rollout.group_size` rollouts."""


class VerifierSeconds(_Part):
    """Wall-clock seconds that judging one response took."""

    median: float
    p95: float
    max: float


class PreflightReport(_Part):
    """What rollouts of some training prompts tell before the first step."""

    summary: str
    """All of it in a sentence."""
    prompts: int
    samples: int
    """Rollouts of each prompt."""
    accuracy: float
    """The share of correct rollouts."""
    histogram: list[int]
    """How many prompts have 0, 1, ... `samples` correct rollouts."""
    no_gradient: NoGradient
    truncated: float
    """Share of the rollouts that were cut at `rollout.max_new_tokens`."""
    length_mean: float
    length_max: int
    """In tokens."""
    verifier_errors: dict[str, int]
    """Cause -> how many rollouts could not be judged; their reward is 0."""
    verifier_seconds: VerifierSeconds
    rollout_seconds: float
    reward_seconds: float
    step_seconds: float
    """What sampling and judging the rollouts of one step would take at this pace; the update comes on top."""


class Preflight(_Event):
    type: Literal["preflight"] = "preflight"
    report: PreflightReport


class Step(_Event):
    """Training step `step` (the first is 1) is done, with all its metrics but those of evaluations."""

    type: Literal["step"] = "step"
    step: int
    metrics: Metrics


class Eval(_Event):
    """One benchmark evaluated with the weights after step `step` (0: before training). Metrics `eval/{name}/...`."""

    type: Literal["eval"] = "eval"
    step: int
    name: str
    metrics: Metrics


class Rollout(_Part):
    """One sampled response and what became of it."""

    group: int
    """Which prompt of the step it answers, 0-based in sampling order."""
    sample: int
    """Which rollout of its group, 0-based."""
    row: int
    """The data set's row the prompt comes from, 1-based as in the ingestion report."""
    prompt: str
    completion: str
    answer: str
    reward: float
    correct: bool
    advantage: float
    """What its tokens are weighted with, the bonus included."""
    bonus: float | None = None
    """Of `reward.bonus`, before it is centred in the group; null where the spec has none."""
    tokens: int
    truncated: bool
    entropy: float | None
    """Mean true entropy over the response's tokens, nats; null for an empty response."""
    token_entropies: list[float] | None = None
    """True entropy of each of the `tokens` tokens, nats; null without the spec's `diagnostics.token_entropies`."""
    token_ends: list[int] | None = None
    """Where each token ends in `completion`, in characters (Unicode code points). A token without a text of its own
    (a special one, a part of a character) ends where the one before it does. Null when `token_entropies` is."""


class Rollouts(_Event):
    type: Literal["rollouts"] = "rollouts"
    step: int
    rollouts: list[Rollout]


class Checkpoint(_Event):
    """A complete checkpoint lies at `path`, relative to the run directory."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    manifest_sha256: str
    bytes: int
    score: float | None
    """Value of the spec's `checkpoint.keep_best` key at this step; null when not measured."""


class Log(_Event):
    """A message for the run's reader. `code` is stable, e.g. `prompts_dropped`, `no_gradient`, `mostly_truncated`."""

    type: Literal["log"] = "log"
    level: Literal["info", "warning", "error"]
    code: str
    message: str
    step: int | None = None
    data: dict[str, Any] = {}


class Likely(_Part):
    """A token that might have come, and its log-prob in nats."""

    text: str
    logprob: float


class SampledToken(_Part):
    text: str
    """Its own; empty where it is a part of a character."""
    logprob: float
    """Under the model itself (temperature 1, nothing cut off), in nats."""
    likely: list[Likely]
    """The likeliest in its place, as many as were asked for."""


class Judged(_Part):
    """What a verifier says of a sample."""

    reward: float | None = None
    """Null where it could not be judged."""
    error: str | None = None


class Delta(_Part):
    """What is new of one sample."""

    index: int
    """Which sample of the request: the n of the first prompt, then those of the next."""
    text: str
    tokens: list[SampledToken] | None = None
    """Those of the text; null where log-probs were not asked for."""
    finish: Literal["stop", "length"] | None = None
    """With the sample's last text: it came to its end (or to a stop string), or it is as long as it may be."""
    judged: Judged | None = None


class SamplingUsage(_Part):
    prompt_tokens: int
    completion_tokens: int
    """All samples together, the tokens that ended them included."""


class SamplingError(_Part):
    kind: Literal["user", "infrastructure"]
    code: str
    message: str
    field: str | None = None
    """Of the request, where one is at fault."""


class Sampled(_Event):
    """A part of the answer to a request to sample; `usage` or `error` comes with the last."""

    type: Literal["sampled"] = "sampled"
    request: str
    number: int
    """Counts the parts of this request from 0."""
    deltas: list[Delta]
    usage: SamplingUsage | None = None
    error: SamplingError | None = None


class Done(_Event):
    """The last step is done and its checkpoint written."""

    type: Literal["done"] = "done"
    step: int


class Stopped(_Event):
    """Asked to stop (SIGTERM): the step in hand was finished and a checkpoint written; the run can be resumed."""

    type: Literal["stopped"] = "stopped"
    step: int


class Failed(_Event):
    """The run cannot go on. `user`: the spec, the data or the run's own numbers; retrying gives the same."""

    type: Literal["failed"] = "failed"
    kind: Literal["user", "infrastructure"]
    code: str
    message: str
    step: int | None = None
    evidence: list[str] = []


Event = Annotated[
    Started | Preflight | Step | Eval | Rollouts | Checkpoint | Log | Sampled | Done | Stopped | Failed,
    Field(discriminator="type"),
]

_adapter: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """Read one line. pydantic.ValidationError (a ValueError) when it is not an event."""
    return _adapter.validate_json(line)


DISK_FULL = "disk_full"
"""Code of a `failed` event: the storage took no more. The run itself is well and goes on once there is room."""
STORAGE_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors that mean it: the device is full, a quota is, or a limit on a file's size is reached."""

EXIT_DONE = 0
EXIT_USER_ERROR = 2
"""After a `failed` event of kind user."""
EXIT_INFRASTRUCTURE_ERROR = 3
"""After a `failed` event of kind infrastructure."""
EXIT_STOPPED = 75
"""After a `stopped` event (EX_TEMPFAIL: try again later)."""
