"""The tables. No relationships: repositories join by hand, so that nothing is loaded unasked.

Timestamps are the database's clock. Ids sort by creation time (store.ids).
"""

from store.models.artifacts import Checkpoint, Rollout
from store.models.base import Base
from store.models.datasets import Dataset
from store.models.jobs import LIVE_SAMPLER, TAGGED, Job, JobEvent, JobLog
from store.models.metrics import JobMetric, JobMetricChunk, JobMetricSupersession
from store.models.sampling import Sampling, SamplingPart
from store.models.sweeps import Sweep, SweepMember
from store.models.teams import AuditEntry, Key, Member, Team, TeamUsage
from store.models.webhooks import Webhook, WebhookDelivery
from store.models.workers import Reservation, Worker

__all__ = [
    "LIVE_SAMPLER",
    "TAGGED",
    "AuditEntry",
    "Base",
    "Checkpoint",
    "Dataset",
    "Job",
    "JobEvent",
    "JobLog",
    "JobMetric",
    "JobMetricChunk",
    "JobMetricSupersession",
    "Key",
    "Member",
    "Reservation",
    "Rollout",
    "Sampling",
    "SamplingPart",
    "Sweep",
    "SweepMember",
    "Team",
    "TeamUsage",
    "Webhook",
    "WebhookDelivery",
    "Worker",
]
