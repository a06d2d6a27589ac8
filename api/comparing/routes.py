"""/compare/runs, /clock, /prompts, /export."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from api.auth import Caller
from api.comparing import export
from api.comparing.schemas import ClockOut, Clocks, CommonPrompt, CommonPrompts, ComparedRun, ComparedRuns
from api.jobs.schemas import JobSummary
from api.metrics.routes import BIGGEST_STEP, JobIds, Keys, Step, named
from api.openapi import problems
from api.problems import invalid
from api.state import State
from store import comparing
from store.jobs import owners as owners_of
from store.metrics.selection import Selection

MOST_PROMPTS = 5000

router = APIRouter(prefix="/compare", tags=["metrics"], responses=problems(404))


@router.get("/runs")
def compared_runs(jobs: JobIds, state: State, caller: Caller) -> ComparedRuns:
    """Jobs to be compared, in one answer: their specs, and which metrics they have."""
    with state.database.transaction(snapshot=True) as session:
        found = comparing.jobs(session, caller, named(jobs))
        owners, keys = owners_of(session, found), comparing.measured_keys(session, found)
        runs = {
            job.id: ComparedRun(
                **JobSummary.of(job, owners).model_dump(), spec=job.spec, keys=keys[job.id], gpus=job.gpus
            )
            for job in found
        }
    return ComparedRuns(jobs=runs)


@router.get("/clock")
def compared_clocks(
    jobs: JobIds, state: State, caller: Caller, points: Annotated[int, Query(ge=2, le=2000)] = 256
) -> Clocks:
    """How long each run took to come to its steps: on the wall clock, and in training."""
    with state.database.transaction(snapshot=True) as session:
        found = comparing.jobs(session, caller, named(jobs))
        clocks = comparing.clocks(session, found, points)
    shown = {
        job_id: ClockOut(step=clock.step, wall_seconds=clock.wall, trained_seconds=clock.trained)
        for job_id, clock in clocks.items()
    }
    return Clocks(jobs=shown)


@router.get("/prompts")
def common_prompts(
    jobs: JobIds,
    state: State,
    caller: Caller,
    from_step: Step = None,
    to_step: Step = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PROMPTS)] = 1000,
) -> CommonPrompts:
    """Rows of the training data of which each of these jobs has stored rollouts, and how many of them were correct.

    Jobs on other data are refused: their rows are other prompts.
    """
    with state.database.transaction(snapshot=True) as session:
        found = comparing.jobs(session, caller, named(jobs))
        if len({job.spec["data"]["train"] for job in found}) > 1:
            raise invalid(["query", "jobs"], "these jobs were trained on different data sets")
        limits = (from_step or 0, BIGGEST_STEP if to_step is None else to_step)
        prompts, more = comparing.common_prompts(session, found, *limits, limit)
    shown = [
        CommonPrompt(
            row=prompt.row,
            prompt=prompt.text,
            samples=[each.samples for each in prompt.solved],
            correct=[each.correct for each in prompt.solved],
            reward=[each.reward for each in prompt.solved],
        )
        for prompt in prompts
    ]
    return CommonPrompts(jobs=[job.id for job in found], prompts=shown, has_more=more)


_CSV: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line per job and step, all of them; a metric that was not measured there is empty, one that "
        "is undefined `null`. Names that a spreadsheet would take for a formula begin with an apostrophe.",
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": "job_id,name,step,attempt,at,reward/mean\r\n"}
        },
    }
}


@router.get("/export", response_class=Response, responses=_CSV)
def export_metrics(jobs: JobIds, state: State, caller: Caller, keys: Keys = None) -> Response:
    """Metrics of several jobs at full resolution, as CSV. Without `keys`: all that any of them measured."""
    wanted = Selection.parse(keys)
    with state.database.transaction(snapshot=True) as session:
        found = comparing.jobs(session, caller, named(jobs))
        names = [(job.id, job.name) for job in found]
        if wanted.exact and not wanted.prefixes:
            columns = list(wanted.exact)
        else:
            measured = comparing.measured_keys(session, found)
            columns = sorted({key for keys in measured.values() for key in keys if key in wanted})
    return StreamingResponse(
        export.lines(state.database, caller, names, columns),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="asym-metrics.csv"', "Cache-Control": "no-store"},
    )
