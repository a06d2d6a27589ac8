"""Rows of `jobs` that are read and changed fast: short columns stay in the row, changes find room beside what they
change, and what few jobs have is in no index for those that have it not.

Version 0010 lowered the table's toast_tuple_target so that specs move out of the rows. With it moved everything that is
longer than a pointer: ids, teams, demands. Each look at one of them was a look into another table.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

SHORT = (
    "id", "team_id", "created_by", "name", "status", "demand", "model", "preset", "tags", "worker_id",
    "idempotency_key", "idempotency_hash", "base_checkpoint", "cloned_from", "retry_of", "continues",
)  # fmt: skip


def upgrade() -> None:
    _store("MAIN")
    op.execute("ALTER TABLE jobs SET (fillfactor = 75)")
    op.drop_constraint("uq_jobs_team_id_idempotency_key", "jobs", type_="unique")
    op.drop_constraint("uq_jobs_retry_of", "jobs", type_="unique")
    for name in ("ix_jobs_continues", "ix_jobs_facade", "ix_jobs_tags"):
        op.drop_index(name, table_name="jobs")
    _few("uq_jobs_team_id_idempotency_key", ["team_id", "idempotency_key"], unique=True)
    _few("uq_jobs_retry_of", ["retry_of"], unique=True)
    _few("ix_jobs_continues", ["continues"])
    _search("ix_jobs_facade", "facade", "facade IS NOT NULL")
    _search("ix_jobs_tags", "tags", "tags <> '{}'")
    # Rewrites the rows that there are.
    op.execute("CLUSTER jobs USING pk_jobs")
    op.execute("ALTER TABLE jobs SET WITHOUT CLUSTER")


def downgrade() -> None:
    for name in (
        "uq_jobs_team_id_idempotency_key", "uq_jobs_retry_of", "ix_jobs_continues", "ix_jobs_facade", "ix_jobs_tags"
    ):  # fmt: skip
        op.drop_index(name, table_name="jobs")
    op.create_unique_constraint("uq_jobs_team_id_idempotency_key", "jobs", ["team_id", "idempotency_key"])
    op.create_unique_constraint("uq_jobs_retry_of", "jobs", ["retry_of"])
    op.create_index("ix_jobs_continues", "jobs", ["continues"])
    _search("ix_jobs_facade", "facade")
    _search("ix_jobs_tags", "tags")
    op.execute("ALTER TABLE jobs RESET (fillfactor)")
    _store("EXTENDED")


def _store(how: str) -> None:
    op.execute("ALTER TABLE jobs " + ", ".join(f"ALTER COLUMN {name} SET STORAGE {how}" for name in SHORT))


def _few(name: str, columns: list[str], *, unique: bool = False) -> None:
    condition = sa.text(f"{columns[-1]} IS NOT NULL")
    op.create_index(name, "jobs", columns, unique=unique, postgresql_where=condition)


def _search(name: str, column: str, condition: str | None = None) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(
        name, "jobs", [column], postgresql_using="gin", postgresql_with={"fastupdate": "off"}, postgresql_where=where
    )
