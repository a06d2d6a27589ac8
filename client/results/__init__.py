"""The JSON objects that the API answers with, as types. Times are RFC 3339 text; a null is a None, never a 0.

They describe what arrives; nothing is checked or converted, so a newer server's extra keys do no harm.
"""

from client.results.comparing import Clock, CommonPrompt, CommonPrompts, ComparedJob, ComparedRun, Comparison
from client.results.datasets import Dataset, DatasetRow, DatasetStatistics, Lengths, PromptTokens
from client.results.history import Checkpoint, JobEvent, LogLine, MetricRow, Metrics, MetricsTakenBack, Rollout, Series
from client.results.jobs import (
    TERMINAL,
    Estimate,
    Failure,
    Job,
    PauseReason,
    Progress,
    QueuedJob,
    QueueInfo,
    Status,
    Validation,
)
from client.results.pages import Page
from client.results.sweeps import Combination, Sweep, SweepMember, SweepSummary
from client.results.teams import AuditEntry, Key, Me, Member, SignedIn, TeamLimits, TeamOfMine, TeamUse
from client.results.webhooks import Delivery, Webhook
from client.results.workers import Device, RunningJob, Worker

__all__ = [
    "TERMINAL",
    "AuditEntry",
    "Checkpoint",
    "Clock",
    "Combination",
    "CommonPrompt",
    "CommonPrompts",
    "ComparedJob",
    "ComparedRun",
    "Comparison",
    "Dataset",
    "DatasetRow",
    "DatasetStatistics",
    "Delivery",
    "Device",
    "Estimate",
    "Failure",
    "Job",
    "JobEvent",
    "Key",
    "Lengths",
    "LogLine",
    "Me",
    "Member",
    "MetricRow",
    "Metrics",
    "MetricsTakenBack",
    "Page",
    "PauseReason",
    "Progress",
    "PromptTokens",
    "QueueInfo",
    "QueuedJob",
    "Rollout",
    "RunningJob",
    "Series",
    "SignedIn",
    "Status",
    "Sweep",
    "SweepMember",
    "SweepSummary",
    "TeamLimits",
    "TeamOfMine",
    "TeamUse",
    "Validation",
    "Webhook",
    "Worker",
]
