"""Clones, retries, jobs that are deleted and tidied."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

ENDED = "status in ('cancelled', 'failed', 'succeeded')"


def upgrade() -> None:
    no = sa.text("false")
    op.add_column("jobs", sa.Column("resume_after_pause", sa.Boolean(), server_default=no, nullable=False))
    op.add_column("jobs", sa.Column("base_checkpoint", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("cloned_from", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("retry_of", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("continues", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("tidied_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_unique_constraint("uq_jobs_retry_of", "jobs", ["retry_of"])
    op.create_foreign_key("fk_jobs_continues_jobs", "jobs", "jobs", ["continues"], ["id"], ondelete="SET NULL")
    op.create_index("ix_jobs_continues", "jobs", ["continues"])
    op.execute(
        "UPDATE jobs SET base_checkpoint = substr(spec->'model'->>'id', 5) WHERE spec->'model'->>'id' LIKE 'job/%'"
    )
    op.create_index(
        "ix_jobs_base_checkpoint",
        "jobs",
        ["base_checkpoint"],
        postgresql_where=sa.text("base_checkpoint IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_to_tidy",
        "jobs",
        ["id"],
        postgresql_where=sa.text(f"{ENDED} AND (tidied_at IS NULL OR deleted_at IS NOT NULL)"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_to_tidy", table_name="jobs")
    op.drop_index("ix_jobs_base_checkpoint", table_name="jobs")
    op.drop_index("ix_jobs_continues", table_name="jobs")
    op.drop_constraint("fk_jobs_continues_jobs", "jobs", type_="foreignkey")
    op.drop_constraint("uq_jobs_retry_of", "jobs", type_="unique")
    for column in (
        "deleted_at", "tidied_at", "continues", "retry_of", "cloned_from", "base_checkpoint", "resume_after_pause",
    ):  # fmt: skip
        op.drop_column("jobs", column)
