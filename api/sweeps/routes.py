"""/sweeps: make many jobs of one plan, steer them as one, and see which combination does best."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Header, Response
from sqlalchemy.orm import Session

from api.auth import Caller, Member
from api.jobs import admission
from api.openapi import problems
from api.paging import After, Limit, Page, page
from api.problems import Problem, all_invalid
from api.spec_errors import readable_errors
from api.state import ApiState, State
from api.sweeps.schemas import PLAN_EXAMPLES, SweepOut, SweepSummary
from store import datasets, sweep_rules, sweeps
from store.access import Identity
from store.models import Sweep
from trainer.spec import JobSpec, failpoints
from trainer.spec.sweep import Member as Planned
from trainer.spec.sweep import SweepError, SweepSpec, members

router = APIRouter(prefix="/sweeps", tags=["sweeps"], responses=problems())

Plan = Annotated[SweepSpec, Body(openapi_examples=PLAN_EXAMPLES)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Sent again with the same plan it gives the same sweep; with another plan, 409.",
    ),
]


@router.post(
    "",
    status_code=201,
    response_model=SweepOut,
    responses={200: {"model": SweepOut}, **problems(403, 404, 409, 413, 429)},
)
def create_sweep(
    plan: Plan,
    state: State,
    member: Member,
    response: Response,
    after_commit: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> SweepOut:
    """Queue every job of a plan, or none. 201; 200 with the first sweep when the Idempotency-Key came before.

    Values are given by the path of their field in the job spec (`algorithm.beta_pos`); a path that is none, and a value
    that its field does not take, are 422s that name it.
    """
    try:
        planned = members(plan)
    except SweepError as error:
        raise all_invalid(readable_errors(error.errors, plan.model_dump(mode="json", by_alias=True))) from error
    with _of_the_base(), state.database.transaction() as session:
        # First of all: a repeated request finds its sweep though a data set of it is gone.
        sweep = None if idempotency_key is None else sweeps.of_key(session, member, plan, idempotency_key)
        created = sweep is None
        if sweep is None:
            sweep, created = _queue(session, state, member, plan, planned, idempotency_key)
        shown = _shown(session, member, sweep)
    failpoints.hit("api.created")
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/sweeps/{shown.id}"
    after_commit.add_task(state.ring)
    return shown


def _queue(
    session: Session,
    state: ApiState,
    member: Identity,
    plan: SweepSpec,
    planned: list[Planned],
    idempotency_key: str | None,
) -> tuple[Sweep, bool]:
    held = datasets.hold(session, member, {ref for each in planned for ref in each.job.data_refs})
    specs: list[JobSpec] = []
    for each in planned:
        admission.check_text(each.job)
        specs.append(admission.completed(each.job, held))
        admission.check_references(session, member, specs[-1], held)
        admission.check(state, specs[-1], held)
    return sweeps.create(
        session, member, plan, planned, specs=specs, held=held, idempotency_key=idempotency_key, policy=state.policy
    )


@router.get("")
def list_sweeps(state: State, caller: Caller, limit: Limit = 50, after: After = None) -> Page[SweepSummary]:
    """The team's sweeps, newest first."""
    with state.database.transaction() as session:
        rows = sweeps.list_page(session, caller, limit + 1, after)
        counted = sweeps.statuses(session, [sweep.id for sweep in rows])
        sizes = sweeps.sizes(session, [sweep.id for sweep in rows])
    return page(
        rows, limit, lambda sweep: SweepSummary.of(sweep, sizes[sweep.id], counted[sweep.id]), lambda sweep: sweep.id
    )


@router.get("/{sweep_id}", responses=problems(404))
def get_sweep(sweep_id: str, state: State, caller: Caller) -> SweepOut:
    """A sweep with all of its members, and its combinations from the best to the worst."""
    with state.database.transaction(snapshot=True) as session:
        return _shown(session, caller, sweeps.get(session, caller, sweep_id))


@router.post("/{sweep_id}/cancel", responses=problems(403, 404))
def cancel_sweep(sweep_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> SweepOut:
    """End every job of a sweep that has not ended. Twice is once."""
    with state.database.transaction() as session:
        shown = _shown(session, member, sweeps.cancel(session, member, sweep_id))
    after_commit.add_task(state.ring)
    return shown


@router.post("/{sweep_id}/pause", responses=problems(403, 404))
def pause_sweep(sweep_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> SweepOut:
    """Hold every job of a sweep that waits or runs. Twice is once."""
    with state.database.transaction() as session:
        shown = _shown(session, member, sweeps.pause(session, member, sweep_id))
    after_commit.add_task(state.ring)
    return shown


@router.post("/{sweep_id}/resume", responses=problems(403, 404, 409, 413, 429))
def resume_sweep(sweep_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> SweepOut:
    """Go on with every job that is held, failed or was cancelled, each from its last checkpoint. Twice is once.

    Those that the sweep's rule ended stay ended. 409 while jobs are still being cancelled, and once the budget is used
    up.
    """
    with state.database.transaction() as session:
        shown = _shown(session, member, sweeps.resume(session, member, sweep_id, policy=state.policy))
    after_commit.add_task(state.ring)
    return shown


@contextmanager
def _of_the_base() -> Iterator[None]:
    """What is said of a job spec is said of the plan's `base`, where its data, model and verifier come from."""
    try:
        yield
    except Problem as problem:
        problem.errors = [
            {**error, "loc": ["body", "base", *error["loc"][1:]]} if error["loc"][0] == "body" else error
            for error in problem.errors
        ]
        raise


def _shown(session: Session, caller: Identity, sweep: Sweep) -> SweepOut:
    found = sweeps.standings(session, caller, sweep)
    plan = SweepSpec.model_validate(sweep.plan)
    used = sweep_rules.used_hours(session, sweep.id)
    return SweepOut.whole(sweep, used, found, sweeps.combinations(plan, found))
