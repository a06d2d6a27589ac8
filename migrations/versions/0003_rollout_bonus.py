"""A rollout's bonus beside its reward."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("bonus", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("rollouts", "bonus")
