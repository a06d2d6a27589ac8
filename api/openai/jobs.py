"""/v1/fine_tuning/jobs: the platform's jobs in the shape of OpenAI's reinforcement fine-tuning."""

import re
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Header, Query, Request
from sqlalchemy.orm import Session

from api.auth import Caller, Member
from api.jobs import admission
from api.openai import translation
from api.openai.errors import responses
from api.openai.job_shapes import (
    CREATE_EXAMPLES,
    CheckpointObject,
    CreateFineTuningJob,
    EventObject,
    FineTuningJob,
)
from api.openai.shapes import After, Limit, ObjectList, metadata_filter, object_list
from api.problems import invalid
from api.state import ApiState, State
from store import datasets, job_history, job_lists, jobs
from store.access import Identity
from store.errors import NotFound
from store.job_lists import Filter, Sort
from store.models import Job
from store.status import TERMINAL, JobStatus

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["OpenAI"], responses=responses())

_EVENT_ID = re.compile(r"ftevent-([0-9]{1,18})")
_CHECKPOINT_ID = re.compile(r"ftckpt-job_[a-z0-9]{1,64}-([0-9]{1,9})")


@router.post("", responses=responses(403, 404, 409, 413, 429))
def openai_create_fine_tuning_job(
    wanted: Annotated[CreateFineTuningJob, Body(openapi_examples=CREATE_EXAMPLES)],
    state: State,
    member: Member,
    after_commit: BackgroundTasks,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")] = None,
) -> FineTuningJob:
    """Queue a reinforcement fine-tuning job. `asym`, beyond OpenAI's shape, is a part of a job spec laid over it."""
    with translation.in_openai_terms(), state.database.transaction() as session:
        files = translation.Files(
            training=_file(session, member, wanted.training_file, "training_file"),
            validation=None
            if wanted.validation_file is None
            else _file(session, member, wanted.validation_file, "validation_file"),
        )
        spec = translation.spec_of(wanted, files)
        admission.check_text(spec)
        translation.check_reference(state, files, spec)
        held = datasets.hold(session, member, spec.data_refs)
        job, created = jobs.create(
            session,
            member,
            spec,
            idempotency_key=idempotency_key,
            facade=translation.said_beside(wanted),
            policy=state.policy,
            held=held,
        )
        if created:
            admission.check(state, spec, held)
            after_commit.add_task(state.ring)
        return translation.shown(job)


@router.get("")
def openai_list_fine_tuning_jobs(
    request: Request,
    state: State,
    caller: Caller,
    limit: Limit = 20,
    after: After = None,
    metadata: Annotated[
        str | None, Query(max_length=4, description="`null`; otherwise written `metadata[KEY]=VALUE`.")
    ] = None,
) -> ObjectList[FineTuningJob]:
    """The team's jobs, newest first, however they were made."""
    if metadata not in (None, "null"):
        raise invalid(["query", "metadata"], "is written metadata[KEY]=VALUE")
    pairs = metadata_filter(request)
    wanted = Filter(facade={"metadata": pairs} if pairs else None)
    with state.database.transaction() as session:
        found = job_lists.find(session, caller, wanted, Sort.NEWEST, limit + 1, after)
        rows, _ = job_lists.read(session, found, whole=True)
        return object_list(rows, limit, translation.shown, lambda job: job.id)


@router.get("/{job_id}", responses=responses(404))
def openai_get_fine_tuning_job(job_id: str, state: State, caller: Caller) -> FineTuningJob:
    """One job."""
    with state.database.transaction() as session:
        return translation.shown(jobs.get(session, caller, job_id))


@router.post("/{job_id}/cancel", responses=responses(403, 404, 409))
def openai_cancel_fine_tuning_job(
    job_id: str, state: State, member: Member, after_commit: BackgroundTasks
) -> FineTuningJob:
    """End a job; twice is once."""
    with state.database.transaction() as session:
        return _told(jobs.request_cancel(session, member, job_id), state, after_commit)


@router.post("/{job_id}/pause", responses=responses(403, 404, 409))
def openai_pause_fine_tuning_job(
    job_id: str, state: State, member: Member, after_commit: BackgroundTasks
) -> FineTuningJob:
    """Hold a job: at once when queued, else after a checkpoint."""
    with state.database.transaction() as session:
        return _told(jobs.request_pause(session, member, job_id), state, after_commit)


@router.post("/{job_id}/resume", responses=responses(403, 404, 409))
def openai_resume_fine_tuning_job(
    job_id: str, state: State, member: Member, after_commit: BackgroundTasks
) -> FineTuningJob:
    """Queue a paused job again; it goes on from its last checkpoint."""
    with state.database.transaction() as session:
        return _told(jobs.resume(session, member, job_id), state, after_commit)


@router.get("/{job_id}/events", responses=responses(404))
def openai_list_fine_tuning_events(
    job_id: str, state: State, caller: Caller, limit: Limit = 20, after: After = None
) -> ObjectList[EventObject]:
    """What happened to the job, newest first; `after` goes on to what was before."""
    before = _number(_EVENT_ID, after)
    with state.database.transaction() as session:
        rows = job_history.events_before(session, caller, job_id, before, limit + 1)
    return object_list(rows, limit, EventObject.of, lambda event: event.id)


@router.get("/{job_id}/checkpoints", responses=responses(404))
def openai_list_fine_tuning_checkpoints(
    job_id: str, state: State, caller: Caller, limit: Limit = 10, after: After = None
) -> ObjectList[CheckpointObject]:
    """The checkpoints that can be started from, newest first."""
    before = _number(_CHECKPOINT_ID, after)
    with state.database.transaction() as session:
        found = job_history.checkpoints(session, caller, job_id)
    usable = [each for each in found if each.deleted_at is None and each.superseded_at is None]
    rows = [each for each in reversed(usable) if before is None or each.step < before]
    return object_list(rows, limit, CheckpointObject.of, lambda checkpoint: checkpoint.id)


def _file(session: Session, identity: Identity, file_id: str, field: str) -> translation.File:
    try:
        return translation.File(field, datasets.get(session, identity, file_id))
    except NotFound as error:
        raise translation.no_file(field, file_id) from error


def _told(job: Job, state: ApiState, after_commit: BackgroundTasks) -> FineTuningJob:
    if job.status not in TERMINAL | {JobStatus.PAUSED}:
        after_commit.add_task(state.ring)
    return translation.shown(job)


def _number(form: re.Pattern[str], after: str | None) -> int | None:
    if after is None:
        return None
    found = form.fullmatch(after)
    if found is None:
        raise invalid(["query", "after"], "not the id of an object of this list")
    return int(found[1])
