"""Metrics as the API shows them. Answers are written by api.metrics.answers; here is what they look like."""

from pydantic import BaseModel

from api.openapi import example
from store.metrics.curve import Value
from store.status import JobStatus


class SeriesOut(BaseModel):
    """One metric: `value[i]` was measured after step `step[i]`; null where the metric is undefined."""

    step: list[int]
    value: list[Value]


_SERIES_EXAMPLE = {
    "reward/mean": {"step": [1, 2, 3], "value": [0.25, 0.31, 0.34]},
    "ent/pos": {"step": [1, 2, 3], "value": [0.91, None, 0.88]},
}


class MetricsOut(BaseModel):
    model_config = example({"keys": _SERIES_EXAMPLE})

    keys: dict[str, SeriesOut]
    cursor: str | None = None
    """With `since` only: what to send as `since` next time."""
    drop_after: int | None = None
    """With `since` only: first forget the points of later steps, then put in those of `keys`, over what is there at
    the same step. Null: nothing is to be forgotten. -1: everything; `keys` holds the whole curves, thinned."""


class ComparedJob(BaseModel):
    name: str
    status: JobStatus
    keys: dict[str, SeriesOut]
    drop_after: int | None = None
    """As of GET /jobs/{id}/metrics."""


class Comparison(BaseModel):
    model_config = example(
        {
            "jobs": {
                "job_01jz8x...": {"name": "asymgrpo", "status": "succeeded", "keys": _SERIES_EXAMPLE},
                "job_01jz8y...": {"name": "grpo", "status": "running", "keys": _SERIES_EXAMPLE},
            }
        }
    )

    jobs: dict[str, ComparedJob]
    """By id, in the order in which they were asked for."""
    cursor: str | None = None
    """With `since` only: what to send as `since` next time, with the same jobs."""
