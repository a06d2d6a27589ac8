"""What jobs demand of workers, what workers have, what teams may use and have used, workers kept free."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_LIMITS = (
    ("max_running_gpus", sa.Integer()),
    ("max_queued_jobs", sa.Integer()),
    ("max_gpu_hours", sa.Integer()),
    ("max_disk_bytes", sa.BigInteger()),
)
_ORDER: tuple[str | sa.TextClause, ...] = (sa.text("priority DESC"), "queued_at", "id")
_QUEUED = "status = 'queued'"


def upgrade() -> None:
    for name, kind in _LIMITS:
        op.add_column("teams", sa.Column(name, kind, nullable=True))
    op.create_table(
        "team_usage",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recent", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("month_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_usage_team_id")),
        sa.PrimaryKeyConstraint("team_id", "kind", name=op.f("pk_team_usage")),
    )
    op.add_column(
        "workers",
        sa.Column("devices", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
    )
    op.add_column("workers", sa.Column("labels", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("workers", sa.Column("draining_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workers", sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("demand", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("model", sa.Text(), nullable=True))
    op.execute("UPDATE jobs SET demand = coalesce(CAST(gpus AS text), 'auto') || '//', model = spec #>> '{model,id}'")
    # Only what is leased now; its time is counted from here on.
    op.add_column("jobs", sa.Column("leased_gpus", sa.SmallInteger(), nullable=True))
    op.add_column("jobs", sa.Column("charged_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE jobs SET charged_at = clock_timestamp(), leased_gpus = coalesce(jobs.gpus, least(workers.gpus, 1)) "
        "FROM workers WHERE workers.id = jobs.worker_id AND jobs.status IN ('running', 'pausing', 'cancelling')"
    )
    op.alter_column("jobs", "demand", nullable=False)
    op.alter_column("jobs", "model", nullable=False)
    op.add_column("jobs", sa.Column("used_seconds", sa.Double(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("max_runtime", sa.Double(), nullable=True))
    op.drop_index("ix_jobs_claim", table_name="jobs")
    op.drop_index("ix_jobs_claim_auto", table_name="jobs")
    op.create_index("ix_jobs_claim", "jobs", ["team_id", "demand", *_ORDER], postgresql_where=sa.text(_QUEUED))
    op.create_index(
        "ix_jobs_pace", "jobs", ["team_id", "model", "id"], postgresql_where=sa.text("started_at IS NOT NULL")
    )
    op.create_table(
        "reservations",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reservations_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_reservations_worker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_reservations")),
        sa.UniqueConstraint("job_id", name=op.f("uq_reservations_job_id")),
    )


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_index("ix_jobs_pace", table_name="jobs")
    op.drop_index("ix_jobs_claim", table_name="jobs")
    op.create_index("ix_jobs_claim", "jobs", ["team_id", "gpus", *_ORDER], postgresql_where=sa.text(_QUEUED))
    op.create_index(
        "ix_jobs_claim_auto", "jobs", ["team_id", *_ORDER], postgresql_where=sa.text(f"{_QUEUED} AND gpus IS NULL")
    )
    for name in ("max_runtime", "used_seconds", "charged_at", "leased_gpus", "model", "demand"):
        op.drop_column("jobs", name)
    for name in ("lost_at", "draining_at", "labels", "devices"):
        op.drop_column("workers", name)
    op.drop_table("team_usage")
    for name, _ in reversed(_LIMITS):
        op.drop_column("teams", name)
