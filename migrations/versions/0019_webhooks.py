"""Webhooks, what each is to be told, and the trigger that writes that down.

A trigger, because state changes come from several places, one of them a claim that is a single SQL statement: so what
is to be told stands in the very transaction that makes it true, whoever made it, and nothing can forget it. Its WHEN
keeps it from being called at all for the many entries that tell of a step.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NOW = sa.text("clock_timestamp()")
_TEXTS = postgresql.ARRAY(sa.Text())

# The evidence of a failure is a process's last words, which may quote anything: whoever wants it asks the API.
_TELL = """
CREATE FUNCTION asym_tell_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told text := 'job.' || CASE NEW.type WHEN 'state' THEN NEW.data ->> 'status'
                                         WHEN 'message' THEN 'alert' ELSE NEW.type END;
BEGIN
    INSERT INTO webhook_deliveries (hook_id, team_id, job_id, event, data)
    SELECT hook.id, hook.team_id, job.id, told, jsonb_build_object(
        'event_id', NEW.id,
        'at', to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'job', jsonb_build_object(
            'id', job.id, 'name', job.name, 'status', job.status, 'attempt', NEW.attempt, 'step', job.step,
            'steps', job.steps, 'tags', to_jsonb(job.tags)
        ),
        'message', NEW.message,
        'details', (NEW.data - 'status' - 'evidence' - 'time') #- '{failure,evidence}'
    )
    FROM jobs AS job JOIN webhooks AS hook ON hook.team_id = job.team_id
    WHERE job.id = NEW.job_id AND hook.active AND hook.deleted_at IS NULL
      AND told = ANY (hook.events) AND hook.tags <@ job.tags;
    RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE TRIGGER tell_webhooks AFTER INSERT ON job_events FOR EACH ROW
WHEN (
    NEW.type = 'checkpoint'
    OR NEW.type = 'state'
       AND NEW.data ->> 'status' IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')
    OR NEW.type = 'message' AND NEW.level = 'warning' AND NEW.data ->> 'code' IS NOT NULL
)
EXECUTE FUNCTION asym_tell_webhooks()
"""


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", _TEXTS, nullable=False),
        sa.Column("tags", _TEXTS, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("switched_off_because", sa.Text(), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("secret_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("turn", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("busy_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_webhooks_team_id")),
        sa.ForeignKeyConstraint(["created_by"], ["api_keys.id"], name=op.f("fk_webhooks_created_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_team_id_id"), "webhooks", ["team_id", "id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("tries", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.SmallInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["hook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_hook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_hook_id_id"), "webhook_deliveries", ["hook_id", "id"])
    op.create_index(
        "ix_webhook_deliveries_pending",
        "webhook_deliveries",
        ["hook_id", "job_id", "id"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.execute(_TELL)
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER tell_webhooks ON job_events")
    op.execute("DROP FUNCTION asym_tell_webhooks()")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
