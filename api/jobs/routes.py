"""/jobs: create, look, steer, copy, delete. What a job writes while it runs: api.metrics, api.events, api.history."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Depends, Header, Query, Response
from sqlalchemy.orm import Session

from api import conditional
from api.auth import Caller, Member
from api.jobs import admission
from api.jobs.filters import filter_of
from api.jobs.schemas import EstimateOut, JobIn, JobOut, JobPatch, JobSummary, QueueOut, Validation
from api.json_answers import json_answer
from api.openapi import SPEC_EXAMPLES, problems
from api.paging import Limit, Page, page
from api.state import ApiState, State
from store import datasets, estimates, job_lists, jobs, removal, successors
from store.access import Identity
from store.demand import Demand
from store.ids import new_id
from store.job_lists import Filter, Sort
from store.models import Dataset, Job
from store.queue import queue_info
from store.status import TERMINAL, JobStatus
from trainer.spec import JobSpec, failpoints

Wanted = Annotated[JobIn, Body(openapi_examples=SPEC_EXAMPLES)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Sent again with the same spec it gives the same job; with another spec, 409.",
    ),
]

Changes = Annotated[
    dict[str, Any] | None,
    Body(
        openapi_examples={
            "the same again": {"value": {}},
            "another beta": {"value": {"name": "beta_neg 0.2", "algorithm": {"beta_neg": 0.2}}},
        }
    ),
]

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=problems())


@router.post(
    "",
    status_code=201,
    response_model=JobOut,
    responses={200: {"model": JobOut}, **problems(403, 404, 409, 413, 429)},
)
def create_job(
    wanted: Wanted,
    state: State,
    member: Member,
    after_commit: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue a job. 201; 200 with the first job when the Idempotency-Key came before with the same body.

    The body is the spec; `tags` and `notes` may stand beside its keys and are not part of it.
    """
    spec = wanted.spec
    admission.check_text(spec)
    with state.database.transaction() as session:
        held = datasets.hold(session, member, spec.data_refs)
        spec = admission.completed(spec, held)
        with admission.missing_references():
            job, created = jobs.create(
                session,
                member,
                spec,
                idempotency_key=idempotency_key,
                tags=wanted.tags,
                notes=wanted.notes,
                policy=state.policy,
                held=held,
            )
        answer = _admitted(session, state, spec, held, job, created)
    return _answered(answer, created, state, after_commit)


@router.post("/validate", responses=problems(404, 413))
def validate_job(wanted: Wanted, state: State, caller: Caller) -> Validation:
    """Everything that creating the job would check, the wait it would meet and what it would take. Stores nothing."""
    spec = wanted.spec
    admission.check_text(spec)
    with state.database.transaction() as session:
        held = datasets.hold(session, caller, spec.data_refs)
        spec = admission.completed(spec, held)
        admission.check_references(session, caller, spec, held)
        warnings = admission.check(state, spec, held)
        # Never added to the session: it only stands in line to see where that is.
        imagined = Job(
            id=new_id("job"),
            team_id=caller.team_id,
            status=JobStatus.QUEUED,
            demand=str(Demand.of(spec.resources)),
            priority=spec.resources.priority,
        )
        queue = queue_info(session, imagined, state.policy, imagined=True)
        told = estimates.estimate(session, caller, spec)
        warnings += estimates.obstacles(session, caller, spec, told, state.policy)
    assert queue is not None  # noqa: S101 - the imagined job is queued
    return Validation(
        spec=spec.model_dump(mode="json"),
        queue=QueueOut.of(queue),
        estimate=None if told is None else EstimateOut.model_validate(told, from_attributes=True),
        warnings=warnings,
    )


@router.get("", response_model=Page[JobSummary], responses={**conditional.NOT_MODIFIED, **problems(404)})
def list_jobs(
    state: State,
    caller: Caller,
    wanted: Annotated[Filter, Depends(filter_of)],
    sort: Annotated[
        Sort,
        Query(
            description="A minus is descending. `finished`, `accuracy`, `gpu_seconds` list only jobs that have ended."
        ),
    ] = Sort.NEWEST,
    limit: Limit = 50,
    after: Annotated[
        str | None, Query(max_length=2000, description="`next` of the page before, in the same order.")
    ] = None,
    if_none_match: conditional.IfNoneMatch = None,
) -> Response:
    """The team's jobs, newest first unless sorted otherwise, that meet every filter."""
    asked = (wanted, sort, limit + 1, after)
    with state.database.transaction() as session:
        found = job_lists.find(session, caller, *asked)
        tag = conditional.tag_of(caller, asked, found)
        if conditional.holds(if_none_match, tag):
            return conditional.not_modified(tag)
        rows, owners = job_lists.read(session, found)
    shown = page(rows, limit, lambda job: JobSummary.of(job, owners), lambda job: job_lists.cursor(sort, job))
    return json_answer(shown, headers=conditional.headers(tag))


@router.get("/{job_id}", response_model=JobOut, responses={**conditional.NOT_MODIFIED, **problems(404)})
def get_job(job_id: str, state: State, caller: Caller, if_none_match: conditional.IfNoneMatch = None) -> Response:
    """A job with its resolved spec; while it is queued, with its place in the queue."""
    with state.database.transaction() as session:
        tag = _tag(session, state, caller, job_id)
        if conditional.holds(if_none_match, tag):
            return conditional.not_modified(tag)
        job = _shown(session, state, jobs.get(session, caller, job_id))
    return json_answer(job, headers=conditional.headers(tag))


@router.patch(
    "/{job_id}",
    responses=problems(403, 404, 412),
)
def edit_job(
    job_id: str,
    changes: JobPatch,
    state: State,
    member: Member,
    response: Response,
    if_match: conditional.IfMatch = None,
) -> JobOut:
    """Change a job's name, tags or notes (JSON merge patch), in any status. Its spec stays as it is."""
    seen = conditional.seen_edits(if_match)
    with state.database.transaction() as session:
        job = jobs.edit(session, member, job_id, **changes.given(), expected=seen)
        shown = _shown(session, state, job)
        conditional.mark(response, _tag(session, state, member, job_id))
    return shown


@router.delete("/{job_id}", status_code=204, responses=problems(403, 404, 409))
def delete_job(job_id: str, state: State, member: Member) -> None:
    """Delete an ended job with its metrics, rollouts, log and checkpoints; the disk is free a little later.

    409 while it has not ended (cancel it first), and while another job is to begin with one of its checkpoints.
    """
    with state.database.transaction() as session:
        removal.request_delete(session, member, job_id)


@router.post("/{job_id}/cancel", responses=problems(403, 404, 409))
def cancel_job(job_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> JobOut:
    """End a job: at once when no worker has it, else as soon as its worker hears of it. Twice is once."""
    with state.database.transaction() as session:
        job = _shown(session, state, jobs.request_cancel(session, member, job_id))
    return _told(job, state, after_commit)


@router.post("/{job_id}/pause", responses=problems(403, 404, 409))
def pause_job(job_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> JobOut:
    """Hold a job: at once when queued, else after a checkpoint. Its GPUs are free then. Twice is once."""
    with state.database.transaction() as session:
        job = _shown(session, state, jobs.request_pause(session, member, job_id))
    return _told(job, state, after_commit)


@router.post("/{job_id}/resume", responses=problems(403, 404, 409))
def resume_job(job_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> JobOut:
    """Queue a paused job again; it goes on from its last checkpoint. One that is pausing is queued once it is paused.

    Twice is once.
    """
    with state.database.transaction() as session:
        job = _shown(session, state, jobs.resume(session, member, job_id))
    return _told(job, state, after_commit)


@router.post(
    "/{job_id}/clone",
    status_code=201,
    response_model=JobOut,
    responses={200: {"model": JobOut}, **problems(403, 404, 409, 413, 429)},
)
def clone_job(
    job_id: str,
    state: State,
    member: Member,
    after_commit: BackgroundTasks,
    changes: Changes = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue a new job with this one's spec and the changes given; this one may be in any status.

    The body is a part of a spec, as JSON merge patch: what it names replaces, null goes back to the default. Another
    `algorithm.preset` or `reward.kind` replaces that section whole. `{}` is the same run again.
    """
    with state.database.transaction() as session:
        source = jobs.get(session, member, job_id)
    spec = admission.changed(source.spec, changes or {})
    admission.check_text(spec)
    with state.database.transaction() as session:
        held = datasets.hold(session, member, spec.data_refs)
        spec = admission.completed(spec, held)
        with admission.missing_references():
            job, created = successors.clone(
                session, member, job_id, spec, idempotency_key=idempotency_key, policy=state.policy, held=held
            )
        answer = _admitted(session, state, spec, held, job, created)
    return _answered(answer, created, state, after_commit)


@router.post(
    "/{job_id}/retry",
    status_code=201,
    response_model=JobOut,
    responses={200: {"model": JobOut}, **problems(403, 404, 409, 413, 429)},
)
def retry_job(job_id: str, state: State, member: Member, after_commit: BackgroundTasks) -> Response:
    """Queue a new job that goes on from the last checkpoint of a failed or cancelled one, with its spec and metrics.

    201; 200 with the retry that there is. What has ended stays as it is: the new job names it in `retry_of`.
    """
    with state.database.transaction() as session:
        with admission.missing_references():
            job, created = successors.retry(session, member, job_id, policy=state.policy)
        spec = JobSpec.model_validate(job.spec)
        answer = _admitted(session, state, spec, datasets.hold(session, member, spec.data_refs), job, created)
    return _answered(answer, created, state, after_commit)


def _admitted(
    session: Session, state: ApiState, spec: JobSpec, held: Mapping[str, Dataset], job: Job, created: bool
) -> JobOut:
    if created:
        # In the same transaction: what is refused leaves no row, and a repeated request finds its job first.
        admission.check(state, spec, held)
    return _shown(session, state, job)


def _answered(job: JobOut, created: bool, state: ApiState, after_commit: BackgroundTasks) -> Response:
    failpoints.hit("api.committed", of=job.id)
    if created:
        after_commit.add_task(state.ring)
    return json_answer(job, status=201 if created else 200, headers={"Location": f"/jobs/{job.id}"})


def _told(job: JobOut, state: ApiState, after_commit: BackgroundTasks) -> JobOut:
    """A worker may have to do something now: it hears of it at once instead of with its next renewal."""
    if job.status not in TERMINAL | {JobStatus.PAUSED}:
        after_commit.add_task(state.ring)
    return job


def _shown(session: Session, state: ApiState, job: Job) -> JobOut:
    return JobOut.with_queue(job, jobs.owners(session, [job]), queue_info(session, job, state.policy))


def _tag(session: Session, state: ApiState, identity: Identity, job_id: str) -> str:
    """Of one job. Its row says all, but for its place while it waits."""
    version = job_lists.version(session, identity, job_id)
    elsewhere = conditional.moment(state) if version.queued else ()
    return conditional.tag_of_edited(identity, version.edits, version.row, elsewhere)
