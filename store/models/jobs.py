"""Jobs, and what is said of them as they run."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Computed, Double, ForeignKey, Identity, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import NOW, Base, StatusText, few, search
from store.status import LEASED, TERMINAL, JobStatus

_LEASED = text("status in ({})".format(", ".join(f"'{status}'" for status in sorted(LEASED))))
_QUEUED = text(f"status = '{JobStatus.QUEUED}'")
_ENDED = text("status in ({})".format(", ".join(f"'{status}'" for status in sorted(TERMINAL))))
_TO_TIDY = text(f"{_ENDED} AND (tidied_at IS NULL OR deleted_at IS NOT NULL)")
_ORDER = (text("priority DESC"), "queued_at", "id")
"""In which queued jobs of one team are taken."""
LIVE_SAMPLER = text("kind = 'serve' AND finished_at IS NULL")
TAGGED = text("tags <> '{}'")
"""The jobs that ix_jobs_tags knows; a search by tags says so, too, or Postgres could not use it."""


def _where_known(name: str, column: str) -> Index:
    """An index for the order of a team's jobs that have a value in this column."""
    return Index(name, "team_id", column, "id", postgresql_where=text(f"{column} IS NOT NULL"))


def _once_ended(column: str) -> Computed:
    """The value of this column, a double, once the job has ended: written as Postgres gives it back."""
    value = f"CASE WHEN (finished_at IS NOT NULL) THEN {column} ELSE NULL::double precision END"
    return Computed(value, persisted=True)


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        # What few jobs have is in no index for the others: a change of a job writes into every index that holds it.
        few("uq_jobs_team_id_idempotency_key", "team_id", "idempotency_key", unique=True),
        few("uq_jobs_retry_of", "retry_of", unique=True),
        few("ix_jobs_continues", "continues"),
        few("ix_jobs_base_checkpoint", "base_checkpoint"),
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
        search("ix_jobs_tags", "tags", TAGGED),
        search("ix_jobs_words", "words"),
        search("ix_jobs_facade", "facade", text("facade IS NOT NULL")),
        # A team has one sampler of a model at a time, whoever asks for it (store.sampling).
        Index("uq_jobs_sampler", "team_id", "model", unique=True, postgresql_where=LIVE_SAMPLER),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="train")
    """train; or serve: a sampler, which holds a model loaded for its team (store.samplers) and is no team's to see."""
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
    queued_at: Mapped[datetime] = mapped_column(server_default=NOW)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW, onupdate=NOW)
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
    at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    line: Mapped[str]
