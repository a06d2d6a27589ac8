"""What lists of jobs filter and sort by, and what people may say of a job."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

LISTED = ("status", "name", "created_by", "model", "preset")
SEARCHED = ("tags", "words", "facade")
COLUMNS = ("preset", "tags", "notes", "edits", "words", "accuracy", "facade")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("preset", sa.Text(), server_default="", nullable=False))
    nothing = sa.text("'{}'")
    op.add_column("jobs", sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=nothing, nullable=False))
    op.add_column("jobs", sa.Column("notes", sa.Text(), server_default="", nullable=False))
    op.add_column("jobs", sa.Column("edits", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("words", postgresql.ARRAY(sa.Text()), server_default=nothing, nullable=False))
    op.add_column("jobs", sa.Column("accuracy", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("facade", postgresql.JSONB(none_as_null=True), nullable=True))
    # Specs move out of the rows that lists and claims go through, as rows are written.
    op.execute("ALTER TABLE jobs SET (toast_tuple_target = 256)")
    op.execute(
        "UPDATE jobs SET preset = coalesce(spec->'algorithm'->>'preset', ''), words = ARRAY("
        "SELECT DISTINCT left(word, size) FROM regexp_split_to_table(lower(name), '[^[:alnum:]]+') AS word, "
        "generate_series(1, least(length(word), 32)) AS size)"
    )
    for column in LISTED:
        op.create_index(f"ix_jobs_team_id_{column}_id", "jobs", ["team_id", column, "id"])
    ended = sa.text("finished_at IS NOT NULL")
    op.create_index("ix_jobs_finished", "jobs", ["team_id", "finished_at", "id"], postgresql_where=ended)
    for column in SEARCHED:
        op.create_index(
            f"ix_jobs_{column}", "jobs", [column], postgresql_using="gin", postgresql_with={"fastupdate": "off"}
        )


def downgrade() -> None:
    indexes = [*SEARCHED, "finished", *(f"team_id_{column}_id" for column in LISTED)]
    for name in indexes:
        op.drop_index(f"ix_jobs_{name}", table_name="jobs")
    op.execute("ALTER TABLE jobs RESET (toast_tuple_target)")
    for column in COLUMNS:
        op.drop_column("jobs", column)
