"""Data sets: versions by name, the columns that their uploader named, statistics."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("version", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE datasets SET version = numbered.version FROM (SELECT id, row_number() OVER "
        "(PARTITION BY team_id, name ORDER BY id) AS version FROM datasets) AS numbered WHERE numbered.id = datasets.id"
    )
    op.alter_column("datasets", "version", nullable=False)
    op.create_unique_constraint(op.f("uq_datasets_team_id_name_version"), "datasets", ["team_id", "name", "version"])
    op.add_column(
        "datasets",
        sa.Column("column_mapping", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("datasets", sa.Column("statistics", postgresql.JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("datasets", "statistics")
    op.drop_column("datasets", "column_mapping")
    op.drop_constraint(op.f("uq_datasets_team_id_name_version"), "datasets", type_="unique")
    op.drop_column("datasets", "version")
