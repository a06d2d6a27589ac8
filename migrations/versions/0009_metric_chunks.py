"""Metrics read from a pyramid of chunks, and told apart by revision.

The chunks of rows that are there already are built by `python -m store.migrate` behind this, job by job
(store.metrics.pyramid.catch_up); until then these jobs are read from their rows.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "job_metric_chunks",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("steps", sa.ARRAY(sa.Integer()), nullable=True),
        sa.Column("numbers", sa.ARRAY(sa.Double()), nullable=True),
        sa.Column("others", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_metric_chunks_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "level", "key", "chunk", name=op.f("pk_job_metric_chunks")),
    )
    op.create_table(
        "job_metric_supersessions",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_metric_supersessions_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "revision", name=op.f("pk_job_metric_supersessions")),
    )
    op.add_column("jobs", sa.Column("metrics_sealed", sa.Integer(), server_default="0", nullable=False))
    op.add_column("job_metrics", sa.Column("revision", sa.BigInteger(), sa.Identity(always=False), nullable=False))
    op.create_index(op.f("ix_job_metrics_job_id_revision"), "job_metrics", ["job_id", "revision"])


def downgrade() -> None:
    op.drop_index(op.f("ix_job_metrics_job_id_revision"), table_name="job_metrics")
    op.drop_column("job_metrics", "revision")
    op.drop_column("jobs", "metrics_sealed")
    op.drop_table("job_metric_supersessions")
    op.drop_table("job_metric_chunks")
