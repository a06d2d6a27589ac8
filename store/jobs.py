"""Jobs as their team sees them: create, read, cancel, pause, resume, and where a queued one stands.

What a job has written while running is in store.job_history; the worker's side is store.leases.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, defer

from store import checkpoints, datasets, job_words, tracing, usage
from store.access import Identity, Scope, find, of_team, require
from store.demand import Demand
from store.errors import Conflict, FieldProblem, Invalid, Stale
from store.ids import new_id
from store.journal import announce, append, event_row, move
from store.models import Base, Checkpoint, Dataset, Job, Key
from store.policy import DEFAULT, Policy
from store.status import JobStatus
from trainer.spec import JobSpec
from trainer.spec.model import parse_model_id

WITHOUT_SPEC = defer(Job.spec, raiseload=True)

_GIVEN = (
    "id", "team_id", "created_by", "name", "status", "spec", "gpus", "demand", "model", "preset", "words", "tags",
    "notes", "facade", "priority", "max_runtime", "max_attempts", "steps", "base_checkpoint", "cloned_from",
    "idempotency_key", "idempotency_hash",
)  # fmt: skip
"""What a new job is given; the database fills in the rest."""
_SEARCHED = ("words", "facade")
_TABLE = Base.metadata.tables[Job.__tablename__]
# Two requests with one key at the same moment: the second waits here and then finds the first one's job.
_QUEUE = select(Job).from_statement(
    insert(_TABLE)
    .values({name: bindparam(name) for name in _GIVEN})
    .on_conflict_do_nothing(
        index_elements=[Job.team_id, Job.idempotency_key], index_where=Job.idempotency_key.is_not(None)
    )
    .returning(*(column for column in _TABLE.columns if column.name not in _SEARCHED))
)
_OWNERS = select(Key.id, Key.name).where(Key.id == any_(bindparam("ids", type_=ARRAY(Text))))


def create(
    session: Session,
    identity: Identity,
    spec: JobSpec,
    *,
    idempotency_key: str | None = None,
    cloned_from: str | None = None,
    tags: Sequence[str] = (),
    notes: str = "",
    facade: dict[str, Any] | None = None,
    policy: Policy = DEFAULT,
    held: Mapping[str, Dataset] | None = None,
) -> tuple[Job, bool]:
    """Queue a job. (job, True), or (the first job, False) when this key came before with the same payload.

    Conflict: the key came before with another payload. Invalid: the spec names a data set or a checkpoint that the
    team does not have. LimitReached: the team may not queue or store more.
    The caller rings the doorbell (store.doorbell) after the commit. `held`: see `check_references`.
    """
    require(identity, Scope.JOBS_WRITE)
    resolved, demand = spec.model_dump(mode="json"), Demand.of(spec.resources)
    beside = {"tags": list(tags), "notes": notes, "facade": facade}
    digest = _digest({"spec": resolved} | {name: value for name, value in beside.items() if value})
    if idempotency_key is not None and (earlier := _by_idempotency_key(session, identity, idempotency_key)):
        return _same_payload(earlier, digest), False
    check_references(session, identity, spec, held)
    usage.admit_job(session, identity.team_id, policy)
    values = {
        "id": new_id("job"),
        "team_id": identity.team_id,
        "created_by": identity.key_id,
        "name": spec.name,
        "status": JobStatus.QUEUED,
        "spec": resolved,
        "gpus": demand.gpus,
        "demand": str(demand),
        "model": spec.model.id,
        "preset": spec.algorithm.preset,
        "words": job_words.beginnings(spec.name, notes),
        **beside,
        "priority": spec.resources.priority,
        "max_runtime": spec.resources.max_runtime,
        "max_attempts": spec.resources.max_attempts,
        "steps": spec.train.steps,
        "base_checkpoint": base_checkpoint(spec),
        "cloned_from": cloned_from,
        "idempotency_key": idempotency_key,
        "idempotency_hash": None if idempotency_key is None else digest,
    }
    job = session.scalars(_QUEUE, values).one_or_none()
    if job is None:
        assert idempotency_key is not None  # noqa: S101 - nothing else conflicts
        earlier = _by_idempotency_key(session, identity, idempotency_key)
        assert earlier is not None  # noqa: S101 - it is what the insert conflicted with
        return _same_payload(earlier, digest), False
    append(session, [event_row(job.id, 0, "state", "queued", {"status": JobStatus.QUEUED.value})])
    announce(session, job.id)
    tracing.job_created(session, job.id)
    return job, True


def check_references(
    session: Session, identity: Identity, spec: JobSpec, held: Mapping[str, Dataset] | None = None
) -> None:
    """Invalid unless the team has every data set, and the checkpoint, that the spec names.

    They cannot be deleted until this transaction ends. held: what datasets.hold has found of its data sets, where that
    was asked already.
    """
    refs: list[tuple[list[str | int], str]] = [(["body", "data", "train"], spec.data.train)]
    refs += [(["body", "eval", index, "data"], benchmark.data) for index, benchmark in enumerate(spec.eval)]
    if held is None:
        held = datasets.hold(session, identity, (id for _, id in refs))
    known = {dataset.id for dataset in held.values() if dataset.deleted_at is None}
    errors: list[FieldProblem] = [{"loc": loc, "msg": f"no data set {id!r}"} for loc, id in refs if id not in known]
    if (base := base_checkpoint(spec)) is not None:
        job_id, _, step = base.partition("@")
        found = session.scalars(
            select(Checkpoint.step)
            .join(Job, Job.id == Checkpoint.job_id)
            .where(of_team(identity, Job), Job.id == job_id, Checkpoint.step == int(step), checkpoints.usable())
            .with_for_update(read=True)
        ).one_or_none()
        if found is None:
            errors.append({"loc": ["body", "model", "id"], "msg": f"no checkpoint of step {step} of job {job_id!r}"})
    if errors:
        raise Invalid(errors)


def base_checkpoint(spec: JobSpec) -> str | None:
    """`JOB_ID@STEP` where the model is another job's checkpoint."""
    source, name = parse_model_id(spec.model.id)
    return name if source == "job" else None


def get(session: Session, identity: Identity, job_id: str) -> Job:
    return find(session, identity, Job, job_id)


def list_page(
    session: Session,
    identity: Identity,
    limit: int,
    after: str | None = None,
    status: Sequence[JobStatus] | None = None,
) -> list[Job]:
    """Newest first, from the one behind `after` on. The jobs come without `spec`: touching it raises."""
    statement = select(Job).where(of_team(identity, Job)).order_by(Job.id.desc()).limit(limit).options(WITHOUT_SPEC)
    if after is not None:
        statement = statement.where(Job.id < after)
    if status is not None:
        statement = statement.where(Job.status.in_(status))
    return list(session.scalars(statement))


def owners(session: Session, jobs: Iterable[Job]) -> dict[str, str]:
    """The name of the key that made each job, by the key's id. Keys that were revoked have names too."""
    ids = {job.created_by for job in jobs}
    return {row.id: row.name for row in session.execute(_OWNERS, {"ids": list(ids)})}


def edit(
    session: Session,
    identity: Identity,
    job_id: str,
    *,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
    expected: Container[int] | None = None,
) -> Job:
    """Change what people call and say of a job, in any status; None leaves a thing as it is. The spec stays as it was.

    expected: the numbers of edits that the caller has seen; Stale when there has been another since.
    """
    job = _for_change(session, identity, job_id)
    if expected is not None and job.edits not in expected:
        raise Stale(f"{job_id} was edited since: read it again")
    wanted = {"name": name, "tags": None if tags is None else list(tags), "notes": notes}
    changes = {each: value for each, value in wanted.items() if value is not None and value != getattr(job, each)}
    if changes:
        for each, value in changes.items():
            setattr(job, each, value)
        job.edits += 1
        job.words = job_words.beginnings(job.name, job.notes)
        session.flush()
    return job


def request_cancel(session: Session, identity: Identity, job_id: str) -> Job:
    """End a job: at once when no worker has it, else when its worker hears of it. Conflict when it ended otherwise."""
    job = _for_change(session, identity, job_id)
    match job.status:
        case JobStatus.CANCELLED | JobStatus.CANCELLING:
            pass
        case JobStatus.QUEUED | JobStatus.PAUSED:
            move(session, job, JobStatus.CANCELLED, "cancelled")
        case JobStatus.RUNNING | JobStatus.PAUSING:
            move(session, job, JobStatus.CANCELLING, "cancel requested")
        case _:
            raise Conflict(f"{job_id} already {job.status}")
    return job


def request_pause(session: Session, identity: Identity, job_id: str) -> Job:
    """Hold a job: at once when queued, else after its next checkpoint. Conflict when it ended or is being cancelled."""
    job = _for_change(session, identity, job_id)
    match job.status:
        case JobStatus.PAUSED:
            pass
        case JobStatus.PAUSING if not job.resume_after_pause:
            pass
        case JobStatus.PAUSING:
            job.resume_after_pause = False
            append(session, [event_row(job.id, job.attempt, "message", "pause requested again", {})])
            announce(session, job.id)
        case JobStatus.QUEUED:
            move(session, job, JobStatus.PAUSED, "paused")
        case JobStatus.RUNNING:
            move(session, job, JobStatus.PAUSING, "pause requested")
        case _:
            raise Conflict(f"{job_id} is {job.status} and cannot be paused")
    return job


def resume(session: Session, identity: Identity, job_id: str) -> Job:
    """Queue a paused job again, behind those that wait now; one that is still pausing, as soon as it is paused.

    Conflict when it ended or is being cancelled.
    """
    job = _for_change(session, identity, job_id)
    match job.status:
        case JobStatus.QUEUED | JobStatus.RUNNING:
            pass
        case JobStatus.PAUSED:
            requeue(session, job)
        case JobStatus.PAUSING if job.resume_after_pause:
            pass
        case JobStatus.PAUSING:
            job.resume_after_pause = True
            append(session, [event_row(job.id, job.attempt, "message", "resume requested, once it is paused", {})])
            announce(session, job.id)
        case _:
            raise Conflict(f"{job_id} is {job.status} and cannot be resumed")
    return job


def requeue(session: Session, job: Job) -> None:
    """A locked, paused job goes behind those that wait now."""
    job.queued_at = session.scalars(select(func.clock_timestamp())).one()
    move(session, job, JobStatus.QUEUED, "resumed")


def _for_change(session: Session, identity: Identity, job_id: str) -> Job:
    require(identity, Scope.JOBS_WRITE)
    return find(session, identity, Job, job_id, lock=True)


def _by_idempotency_key(session: Session, identity: Identity, key: str) -> Job | None:
    return session.scalars(select(Job).where(of_team(identity, Job), Job.idempotency_key == key)).one_or_none()


def _same_payload(job: Job, digest: str) -> Job:
    if job.idempotency_hash != digest:
        raise Conflict(f"this Idempotency-Key was used for {job.id}, with another payload")
    return job


def _digest(payload: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
