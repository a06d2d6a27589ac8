"""Sampling from checkpoints: samplers are jobs of a kind of their own, requests and their answers two tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.Text(), server_default="train", nullable=False))
    live = sa.text("kind = 'serve' AND finished_at IS NULL")
    op.create_index("uq_jobs_sampler", "jobs", ["team_id", "model"], unique=True, postgresql_where=live)
    op.create_table(
        "samplings",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("team_id", sa.Text(), sa.ForeignKey("teams.id"), nullable=False),
        sa.Column("created_by", sa.Text(), sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("request", postgresql.JSONB(), nullable=False),
        sa.Column("sampler_id", sa.Text(), sa.ForeignKey("jobs.id", ondelete="SET NULL")),
        sa.Column("attempt", sa.Integer()),
        sa.Column("usage", postgresql.JSONB()),
        sa.Column("error", postgresql.JSONB()),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
    )
    op.create_index("ix_samplings_team_id_id", "samplings", ["team_id", "id"])
    waiting = sa.text("status = 'waiting'")
    op.create_index("ix_samplings_waiting", "samplings", ["team_id", "model", "id"], postgresql_where=waiting)
    unanswered = sa.text("finished_at IS NULL")
    op.create_index("ix_samplings_open", "samplings", ["expires_at"], postgresql_where=unanswered)
    op.create_index("ix_samplings_sampler_id", "samplings", ["sampler_id"])
    answered = sa.text("finished_at IS NOT NULL")
    op.create_index("ix_samplings_finished_at", "samplings", ["finished_at"], postgresql_where=answered)
    op.create_table(
        "sampling_parts",
        sa.Column("sampling_id", sa.Text(), sa.ForeignKey("samplings.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("deltas", postgresql.JSONB(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("sampling_parts")
    op.drop_table("samplings")
    op.drop_index("uq_jobs_sampler", table_name="jobs")
    # Samplers are no jobs of before: nothing there could end them.
    op.execute("DELETE FROM jobs WHERE kind = 'serve'")
    op.drop_column("jobs", "kind")
