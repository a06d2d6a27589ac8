"""The entropy of each token of a stored rollout, and where in its text the token ends."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("token_entropies", postgresql.ARRAY(sa.REAL()), nullable=True))
    op.add_column("rollouts", sa.Column("token_ends", postgresql.ARRAY(sa.Integer()), nullable=True))


def downgrade() -> None:
    op.drop_column("rollouts", "token_ends")
    op.drop_column("rollouts", "token_entropies")
