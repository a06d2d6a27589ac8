"""What ended jobs are sorted by: their last accuracy and their GPU-seconds.

Columns of their own, empty until a job has ended: indexes on the ones that change while it runs would be written to
with every batch of events and every renewal of a lease.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

COLUMNS = {"final_accuracy": ("accuracy", sa.Float()), "final_gpu_seconds": ("gpu_seconds", sa.Double())}


def upgrade() -> None:
    for name, (source, kind) in COLUMNS.items():
        value = f"CASE WHEN (finished_at IS NOT NULL) THEN {source} ELSE NULL::double precision END"
        op.add_column("jobs", sa.Column(name, kind, sa.Computed(value, persisted=True), nullable=True))
        known = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_jobs_{name}", "jobs", ["team_id", name, "id"], postgresql_where=known)


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_index(f"ix_jobs_{name}", table_name="jobs")
        op.drop_column("jobs", name)
