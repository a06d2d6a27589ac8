"""Members, scopes, expiry and rotation of keys, hashes under a secret, the audit log.

Every key there was becomes the key of a member of its own, with its name and role: nothing tells which keys are one
person's. Its hash stays until it is used (store.keys).
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_members_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_team_id"), "members", ["team_id"])
    op.execute(
        "INSERT INTO members (id, team_id, name, role, created_at) "
        "SELECT 'member_' || substr(id, 5), team_id, name, role, created_at FROM api_keys"
    )
    op.add_column("api_keys", sa.Column("member_id", sa.Text(), nullable=True))
    op.execute("UPDATE api_keys SET member_id = 'member_' || substr(id, 5)")
    op.alter_column("api_keys", "member_id", nullable=False)
    op.create_foreign_key(op.f("fk_api_keys_member_id"), "api_keys", "members", ["member_id"], ["id"])
    op.create_index(op.f("ix_api_keys_member_id"), "api_keys", ["member_id"])
    op.add_column("api_keys", sa.Column("secret_id", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("scopes", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("rotated_from", sa.Text(), nullable=True))
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("team_id", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_team_id_id"), "audit_log", ["team_id", "id"])


def downgrade() -> None:
    """Keys hashed under a secret are unknown to the older version: new ones must be made then."""
    # The older version knows neither an end nor a narrowing: such a key must not come back to life, or grow.
    op.execute(
        "UPDATE api_keys SET revoked_at = clock_timestamp() FROM members "
        "WHERE members.id = member_id AND revoked_at IS NULL "
        "AND (expires_at IS NOT NULL OR scopes IS NOT NULL OR removed_at IS NOT NULL OR members.role <> api_keys.role)"
    )
    op.drop_table("audit_log")
    op.drop_index(op.f("ix_api_keys_member_id"), table_name="api_keys")
    op.drop_constraint(op.f("fk_api_keys_member_id"), "api_keys", type_="foreignkey")
    for name in ("rotated_from", "expires_at", "scopes", "secret_id", "member_id"):
        op.drop_column("api_keys", name)
    op.drop_table("members")
