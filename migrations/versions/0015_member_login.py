"""Under which name of the organisation's identity provider a member signs in."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("members", sa.Column("login", sa.Text(), nullable=True))
    op.create_index(
        "ix_members_login",
        "members",
        ["login", "team_id"],
        unique=True,
        postgresql_where=sa.text("login IS NOT NULL AND removed_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_members_login", table_name="members")
    op.drop_column("members", "login")
