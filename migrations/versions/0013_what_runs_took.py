"""What each job used of GPUs, and a way to its journal past the entries of its steps."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("gpu_seconds", sa.Double(), server_default=sa.text("0"), nullable=False))
    # Of jobs that left the number of GPUs to the worker nobody noted how many it was.
    op.execute("UPDATE jobs SET gpu_seconds = used_seconds * gpus WHERE gpus > 0")
    told = sa.text("type <> 'step'")
    op.create_index("ix_job_events_told", "job_events", ["job_id", "id"], postgresql_where=told)


def downgrade() -> None:
    op.drop_index("ix_job_events_told", table_name="job_events")
    op.drop_column("jobs", "gpu_seconds")
