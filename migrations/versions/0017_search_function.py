"""A version for `asym_jobs_found`, which every migration brings (store.tenancy) and lists of jobs need from here on."""

from collections.abc import Sequence

from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    op.execute("DROP FUNCTION IF EXISTS asym_jobs_found(text[], text[], jsonb, integer)")
