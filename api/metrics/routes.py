"""/jobs/{id}/metrics and /compare."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.auth import Caller
from api.metrics import series
from api.metrics.downsampling import FEWEST, Value
from api.metrics.series import Wanted
from api.openapi import example, problems
from api.problems import invalid
from api.state import State
from store import jobs
from store.status import JobStatus

BIGGEST_STEP = 2**31 - 1
MOST_JOBS = 50

Keys = Annotated[
    str | None,
    Query(max_length=10_000, description="Comma list; `ent/*` is every key that begins so. Without it: all keys."),
]
Step = Annotated[int | None, Query(ge=0, le=BIGGEST_STEP)]
MaxPoints = Annotated[
    int,
    Query(
        ge=FEWEST,
        le=1_000_000,
        description="Longer series are thinned out; the extremes of every stretch stay, and so do nulls.",
    ),
]

router = APIRouter(tags=["metrics"], responses=problems(404))


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


class ComparedJob(BaseModel):
    name: str
    status: JobStatus
    keys: dict[str, SeriesOut]


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


@router.get("/jobs/{job_id}/metrics")
def get_metrics(
    job_id: str,
    state: State,
    caller: Caller,
    keys: Keys = None,
    from_step: Step = None,
    to_step: Step = None,
    max_points: MaxPoints = 2000,
) -> MetricsOut:
    """The job's metrics, a column of steps and one of values per key. Step 0 is before training."""
    with state.database.transaction() as session:
        found = series.read(session, caller, job_id, Wanted.parse(keys), max_points, from_step, to_step)
    return MetricsOut(keys=_shown(found))


@router.get("/compare")
def compare_jobs(
    state: State,
    caller: Caller,
    jobs_: Annotated[str, Query(alias="jobs", min_length=1, max_length=4000, description="Comma list of job ids.")],
    keys: Keys = None,
    max_points: MaxPoints = 500,
) -> Comparison:
    """The same metrics of several jobs, to lay over one another."""
    ids = list(dict.fromkeys(part for each in jobs_.split(",") if (part := each.strip())))
    if not 1 <= len(ids) <= MOST_JOBS:
        raise invalid(["query", "jobs"], f"name 1 to {MOST_JOBS} jobs, got {len(ids)}")
    wanted = Wanted.parse(keys)
    compared = {}
    with state.database.transaction() as session:
        for job_id in ids:
            job = jobs.get(session, caller, job_id)
            found = series.read(session, caller, job_id, wanted, max_points)
            compared[job_id] = ComparedJob(name=job.name, status=job.status, keys=_shown(found))
    return Comparison(jobs=compared)


def _shown(found: dict[str, series.Series]) -> dict[str, SeriesOut]:
    # The values come from the database's own JSON: checking a million numbers again would only cost time.
    return {key: SeriesOut.model_construct(step=each.step, value=each.value) for key, each in found.items()}
