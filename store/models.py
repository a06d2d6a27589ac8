"""The tables. No relationships: repositories join by hand, so that nothing is loaded unasked.

Timestamps are the database's clock. Ids sort by creation time (store.ids).
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Computed,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Text,
    TextClause,
    TypeDecorator,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.status import LEASED, TERMINAL, JobStatus


class StatusText(TypeDecorator[JobStatus]):
    """A JobStatus, kept as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JobStatus | None, dialect: Dialect) -> str | None:
        return None if value is None else JobStatus(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> JobStatus | None:
        return None if value is None else JobStatus(value)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: JSONB(),
    }
    # Columns that the database fills come back with the INSERT or UPDATE itself, never by a later hidden query.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012


_NOW = func.clock_timestamp()
_LEASED = text("status in ({})".format(", ".join(f"'{status}'" for status in sorted(LEASED))))
_QUEUED = text(f"status = '{JobStatus.QUEUED}'")
_ENDED = text("status in ({})".format(", ".join(f"'{status}'" for status in sorted(TERMINAL))))
_TO_TIDY = text(f"{_ENDED} AND (tidied_at IS NULL OR deleted_at IS NOT NULL)")
_ORDER = (text("priority DESC"), "queued_at", "id")
"""In which queued jobs of one team are taken."""
TAGGED = text("tags <> '{}'")
"""The jobs that ix_jobs_tags knows; a search by tags says so, too, or Postgres could not use it."""


def _few(name: str, *columns: str, unique: bool = False) -> Index:
    """An index of the rows that have something in the last of these columns."""
    return Index(name, *columns, unique=unique, postgresql_where=text(f"{columns[-1]} IS NOT NULL"))


def _where_known(name: str, column: str) -> Index:
    """An index for the order of a team's jobs that have a value in this column."""
    return Index(name, "team_id", column, "id", postgresql_where=text(f"{column} IS NOT NULL"))


def _once_ended(column: str) -> Computed:
    """The value of this column, a double, once the job has ended: written as Postgres gives it back."""
    value = f"CASE WHEN (finished_at IS NOT NULL) THEN {column} ELSE NULL::double precision END"
    return Computed(value, persisted=True)


def _search(name: str, column: str, only: TextClause | None = None) -> Index:
    """A GIN index without a list of pending entries, which every search would have to go through."""
    return Index(name, column, postgresql_using="gin", postgresql_with={"fastupdate": "off"}, postgresql_where=only)


class Team(Base):
    __tablename__ = "teams"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    max_running_gpus: Mapped[int | None]
    """This and the other limits: NULL is the platform's default, -1 no limit (store.policy)."""
    max_queued_jobs: Mapped[int | None]
    max_gpu_hours: Mapped[int | None]
    max_disk_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class TeamUsage(Base):
    """What a team has used of one kind of slot (store.usage)."""

    __tablename__ = "team_usage"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """gpu or cpu."""
    recent: Mapped[float]
    """GPU-seconds (seconds of CPU slots), those of long ago decayed, as of `at`."""
    at: Mapped[datetime]
    month: Mapped[date]
    month_seconds: Mapped[float]


class Member(Base):
    """Somebody of a team, a person or a program. Removed members stay, since keys, jobs and the audit log name them."""

    __tablename__ = "members"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    name: Mapped[str]
    role: Mapped[str]
    login: Mapped[str | None]
    """Under which name, as the identity provider says it, the member signs in (store.sign_in); null: by keys only."""
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    removed_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_members_login",
            "login",
            "team_id",
            unique=True,
            postgresql_where=text("login IS NOT NULL AND removed_at IS NULL"),
        ),
    )


class Key(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    member_id: Mapped[str] = mapped_column(ForeignKey("members.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    """The key's first characters, to tell keys apart in a list."""
    hash: Mapped[str] = mapped_column(unique=True)
    """HMAC-SHA-256 of the key under the server's secret. The key is 256 random bits, so no slow hash is needed."""
    secret_id: Mapped[str | None]
    """Which secret (store.secret). NULL: a plain SHA-256 of before there was one; the next use replaces it."""
    role: Mapped[str]
    scopes: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    """What it was narrowed to; NULL: all that its role may do."""
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    rotated_from: Mapped[str | None]
    """The key that this one takes the place of. Only a note."""


class AuditEntry(Base):
    """Who did what, or was refused it. No foreign keys: an entry outlives whatever it speaks of."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "team_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    team_id: Mapped[str | None]
    """NULL: nobody known; for the operator only."""
    key_id: Mapped[str | None]
    member_id: Mapped[str | None]
    address: Mapped[str]
    """Where the request came from, as far as the API can tell."""
    action: Mapped[str]
    """The route's operation id, such as create_job; authenticate for a key that was refused."""
    object: Mapped[str]
    """The id of what it was done to or what it made, else the path."""
    status: Mapped[int] = mapped_column(SmallInteger)
    """The HTTP status of the answer."""
    reason: Mapped[str | None]
    """Why a key was refused: unknown, revoked, expired or removed."""


class Dataset(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("team_id", "name", "version"),
        Index(None, "team_id", "id"),
        Index(None, "sha256"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    version: Mapped[int]
    """Of this name in its team, 1 for the first; a number is never given twice."""
    filename: Mapped[str]
    format: Mapped[str]
    columns: Mapped[list[str]]
    column_mapping: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Which columns the uploader named as prompt and answer: what a job on it takes that names none."""
    statistics: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """trainer.spec.dataset.Statistics; None of those uploaded before there were any."""
    rows: Mapped[int] = mapped_column(BigInteger)
    unanswered_rows: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    deleted_at: Mapped[datetime | None]


class Worker(Base):
    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    gpus: Mapped[int]
    cpu_slots: Mapped[int]
    devices: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """{name, memory_gb} of each GPU, null where it could not be read."""
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    version: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    draining_at: Mapped[datetime | None]
    lost_at: Mapped[datetime | None]
    """Not heard from; it may come back."""
    stopped_at: Mapped[datetime | None]


class Reservation(Base):
    """A worker whose GPUs are kept free for a job that needs several at once (store.reservations)."""

    __tablename__ = "reservations"

    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    made_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        # What few jobs have is in no index for the others: a change of a job writes into every index that holds it.
        _few("uq_jobs_team_id_idempotency_key", "team_id", "idempotency_key", unique=True),
        _few("uq_jobs_retry_of", "retry_of", unique=True),
        _few("ix_jobs_continues", "continues"),
        _few("ix_jobs_base_checkpoint", "base_checkpoint"),
        Index(None, "team_id", "id"),
        # The claim reads the first entries per team and demand straight off this, never the rows behind them.
        Index("ix_jobs_claim", "team_id", "demand", *_ORDER, postgresql_where=_QUEUED),
        Index("ix_jobs_queue", *_ORDER, postgresql_where=_QUEUED),
        Index("ix_jobs_leased_by_team", "team_id", postgresql_where=_LEASED),
        Index("ix_jobs_to_tidy", "id", postgresql_where=_TO_TIDY),
        # How long such jobs took, for the estimate of those that wait.
        Index("ix_jobs_pace", "team_id", "model", "id", postgresql_where=text("started_at IS NOT NULL")),
        # What lists filter and sort by (store.job_lists).
        Index(None, "team_id", "status", "id"),
        Index(None, "team_id", "name", "id"),
        Index(None, "team_id", "created_by", "id"),
        Index(None, "team_id", "model", "id"),
        Index(None, "team_id", "preset", "id"),
        _where_known("ix_jobs_finished", "finished_at"),
        _where_known("ix_jobs_final_accuracy", "final_accuracy"),
        _where_known("ix_jobs_final_gpu_seconds", "final_gpu_seconds"),
        _search("ix_jobs_tags", "tags", TAGGED),
        _search("ix_jobs_words", "words"),
        _search("ix_jobs_facade", "facade", text("facade IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    status: Mapped[JobStatus] = mapped_column(StatusText())
    spec: Mapped[dict[str, Any]]
    gpus: Mapped[int | None] = mapped_column(SmallInteger)
    """None is auto: one GPU on a worker that has any, else the CPU."""
    demand: Mapped[str]
    """What it needs of a worker (store.demand)."""
    model: Mapped[str]
    """The spec's model id: jobs of one model take about as long a step."""
    preset: Mapped[str] = mapped_column(server_default="")
    """The spec's algorithm.preset."""
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    notes: Mapped[str] = mapped_column(server_default="")
    edits: Mapped[int] = mapped_column(server_default="0")
    """How often name, tags or notes were changed: what an edit is held against (store.jobs.edit)."""
    words: Mapped[list[str]] = mapped_column(
        ARRAY(Text), server_default=text("'{}'"), deferred=True, deferred_raiseload=True
    )
    """Every beginning of those of the name and the notes, for searching (store.job_words)."""
    accuracy: Mapped[float | None]
    """The last step's group/accuracy."""
    facade: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), deferred=True)
    """Of a job made through the OpenAI-compatible routes: what the request said beyond the spec (api.openai)."""
    priority: Mapped[int] = mapped_column(server_default="0")
    attempt: Mapped[int] = mapped_column(server_default="0")
    """The fencing token: grows with every claim, never falls."""
    batch: Mapped[int] = mapped_column(server_default="0")
    """The last batch of events recorded by this attempt, so that a replayed one changes nothing."""
    crashes: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int]
    step: Mapped[int] = mapped_column(server_default="0")
    steps: Mapped[int]
    seconds_per_step: Mapped[float | None]
    metrics_sealed: Mapped[int] = mapped_column(server_default="0")
    """Metrics of the steps before this one are in job_metric_chunks, too (store.metrics.levels)."""
    worker_id: Mapped[str | None] = mapped_column(ForeignKey("workers.id"))
    lease_until: Mapped[datetime | None]
    leased_gpus: Mapped[int | None] = mapped_column(SmallInteger)
    """What the lease holds of the worker; 0 is a CPU slot."""
    charged_at: Mapped[datetime | None]
    """Up to when the lease's time is in `used_seconds` and in its team's usage."""
    used_seconds: Mapped[float] = mapped_column(server_default=text("0"))
    """Under leases, of all attempts."""
    gpu_seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))
    """The same, each second as often as it held GPUs."""
    # To sort by. They change with every batch and every renewal of a lease while a job runs: an index on the columns
    # themselves would be written to each time.
    final_accuracy: Mapped[float | None] = mapped_column(
        _once_ended("accuracy"), deferred=True, deferred_raiseload=True
    )
    final_gpu_seconds: Mapped[float | None] = mapped_column(
        Double, _once_ended("gpu_seconds"), deferred=True, deferred_raiseload=True
    )
    max_runtime: Mapped[float | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW, onupdate=_NOW)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    pause_reason: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """{code, message} of a job that the platform paused by itself; None when somebody asked for the pause."""
    preflight: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """trainer.spec.events.PreflightReport, once there is one."""
    idempotency_key: Mapped[str | None]
    idempotency_hash: Mapped[str | None]
    resume_after_pause: Mapped[bool] = mapped_column(server_default=text("false"))
    """A resume that came while the job was still pausing."""
    base_checkpoint: Mapped[str | None]
    """`JOB_ID@STEP` where the model is another job's checkpoint, which stays as long as this job has not ended."""
    cloned_from: Mapped[str | None]
    """The job whose spec this one was made of. Only a note: that job may be gone."""
    retry_of: Mapped[str | None]
    """The ended job that this one goes on for. Only a note, too; but there is one retry of a job."""
    continues: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    """The job whose newest checkpoint a retry begins from as long as it has none of its own."""
    tidied_at: Mapped[datetime | None]
    """Since the job ended, its folder has been rid of what nothing can start from."""
    deleted_at: Mapped[datetime | None]
    """Nobody sees it any more; its files and then its rows go as soon as a worker gets to it."""


class JobMetric(Base):
    """The truth about a job's metrics: one row per step, with all that was measured at it."""

    __tablename__ = "job_metrics"
    __table_args__ = (Index(None, "job_id", "revision"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    values: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(BigInteger, Identity())
    """Given anew whenever the row is written; those of one job grow in the order of the commits (store.metrics)."""


class JobMetricChunk(Base):
    """What is read in place of the rows: a key's points of 128 buckets of 2^level steps (store.metrics.levels)."""

    __tablename__ = "job_metric_chunks"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    """It begins at step chunk * 128 * 2^level."""
    count: Mapped[int]
    """How many values were measured in its steps; there are fewer points where they are thinned."""
    steps: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    """Of each point; NULL at level 0 when every step has one."""
    numbers: Mapped[list[float | None] | None] = mapped_column(ARRAY(Double))
    """The points' values, NULL where undefined; where all are floats or undefined."""
    others: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The points' values where there are whole numbers or lists among them."""


class JobMetricSupersession(Base):
    """An attempt went on from `kept` and took back what had been measured after that step."""

    __tablename__ = "job_metric_supersessions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """From the sequence of job_metrics.revision: its place among the rows' changes."""
    kept: Mapped[int]


class Rollout(Base):
    __tablename__ = "rollouts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    group_index: Mapped[int] = mapped_column(primary_key=True)
    sample_index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    row: Mapped[int] = mapped_column(BigInteger)
    prompt: Mapped[str]
    completion: Mapped[str]
    answer: Mapped[str]
    reward: Mapped[float]
    correct: Mapped[bool]
    advantage: Mapped[float]
    bonus: Mapped[float | None]
    tokens: Mapped[int]
    truncated: Mapped[bool]
    entropy: Mapped[float | None]
    token_entropies: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    """Nats, one per token; null where the spec does not ask for them."""
    token_ends: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    """Where each token ends in the completion, in characters."""


class Checkpoint(Base):
    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    path: Mapped[str]
    """Relative to the artifact root."""
    manifest_sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    superseded_at: Mapped[datetime | None]
    """A later attempt went on from an earlier step: nothing starts from this one again."""
    deleted_at: Mapped[datetime | None]


class Sweep(Base):
    """A plan of many jobs. Which jobs they are is in SweepMember; how far they are, theirs to say."""

    __tablename__ = "sweeps"
    __table_args__ = (
        Index(None, "team_id", "id"),
        # Those that the rules have to look after.
        Index("ix_sweeps_ruled", "id", postgresql_where=text("ruled AND ended_because IS NULL")),
        _few("uq_sweeps_team_id_idempotency_key", "team_id", "idempotency_key", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    plan: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The resolved SweepSpec."""
    ruled: Mapped[bool]
    """It has a budget, or a rule that ends members early."""
    ended_because: Mapped[str | None]
    """Why no member of it is to begin or go on: it was cancelled, or its budget is used up."""
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    idempotency_key: Mapped[str | None]
    idempotency_hash: Mapped[str | None]


class SweepMember(Base):
    __tablename__ = "sweep_members"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """From 0, in the plan's order."""
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), unique=True)
    """The newest job of the member: a retry takes the place of the one it goes on for. Null: it was deleted."""
    point: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What it has of its own, by path."""
    seed: Mapped[int] = mapped_column(BigInteger)
    judged_step: Mapped[int | None]
    """Up to which step the sweep's rule has judged it."""
    stopped_because: Mapped[str | None]
    """Why the sweep's rules ended it."""


class Webhook(Base):
    """An address that a team wants to be told at (store.webhooks). Its secret is nowhere: it follows from the id."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "team_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Of which kinds (store.webhooks.events)."""
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Only of jobs that have all of these."""
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    switched_off_because: Mapped[str | None]
    """Why the platform switched it off; NULL where it is on, or where somebody switched it off."""
    failing_since: Mapped[datetime | None]
    """When the first of the tries failed since which none has succeeded."""
    secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    old_secret_until: Mapped[datetime | None]
    """Until when the version before signs, too."""
    turn: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The fence: grows with every process that takes its deliveries on."""
    busy_until: Mapped[datetime | None]
    """Somebody delivers to it, and is to be given up after this."""
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    deleted_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """Something that a webhook is to be told, and how that went. Written by a trigger on job_events (migration 0019),
    so in the very transaction that changes the job."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "hook_id", "id"),
        Index("ix_webhook_deliveries_pending", "hook_id", "job_id", "id", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    hook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    team_id: Mapped[str]
    job_id: Mapped[str | None]
    """Only a note: the job may be gone."""
    event: Mapped[str]
    data: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="pending")
    """pending, delivered or failed."""
    tries: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Since it was made, or was last asked to be replayed."""
    due_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    """When a pending one is tried next."""
    tried_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    answer: Mapped[int | None] = mapped_column(SmallInteger)
    """The HTTP status of the last try's answer."""
    error: Mapped[str | None]
    """Why the last try failed."""
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class JobEvent(Base):
    __tablename__ = "job_events"
    __table_args__ = (
        Index(None, "job_id", "id"),
        # A long run has an entry for every step; what happened to it stands between thousands of them.
        Index("ix_job_events_told", "job_id", "id", postgresql_where=text("type <> 'step'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    level: Mapped[str]
    type: Mapped[str]
    """store.journal.EventType."""
    message: Mapped[str]
    data: Mapped[dict[str, Any]]


class JobLog(Base):
    __tablename__ = "job_logs"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    line: Mapped[str]
