"""What a webhook can be told of."""

from enum import StrEnum


class HookEvent(StrEnum):
    """The names are those that the trigger of migration 0019 makes of a job's journal."""

    QUEUED = "job.queued"
    """Also once more: resumed, or given back by an attempt."""
    RUNNING = "job.running"
    PAUSED = "job.paused"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    ALERT = "job.alert"
    """A warning with a code: of the run's metrics, of its data, of a trainer that has fallen silent."""
    CHECKPOINT = "job.checkpoint"


TEST = "webhook.test"
"""What POST /webhooks/{id}/test sends, to any webhook."""
