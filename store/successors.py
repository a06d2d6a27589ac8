"""Jobs made of other jobs: a clone does the same with changes, a retry goes on where an ended one stopped.

What has ended never changes again, so both are new jobs that name the one they come from.
"""

from collections.abc import Mapping

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from store import checkpoints, jobs
from store.access import Identity, Scope, find, of_team, require
from store.errors import Conflict
from store.journal import append, event_row
from store.metrics import pyramid
from store.models import Dataset, Job, JobMetric
from store.policy import DEFAULT, Policy
from store.status import JobStatus
from trainer.spec import JobSpec


def clone(
    session: Session,
    identity: Identity,
    job_id: str,
    spec: JobSpec,
    *,
    idempotency_key: str | None = None,
    policy: Policy = DEFAULT,
    held: Mapping[str, Dataset] | None = None,
) -> tuple[Job, bool]:
    """A new job from the beginning, of a spec that was made of the job's, under its tags. As store.jobs.create."""
    source = find(session, identity, Job, job_id)
    return jobs.create(
        session,
        identity,
        spec,
        idempotency_key=idempotency_key,
        cloned_from=source.id,
        tags=source.tags,
        policy=policy,
        held=held,
    )


def retry(session: Session, identity: Identity, job_id: str, *, policy: Policy = DEFAULT) -> tuple[Job, bool]:
    """A new job that goes on from the last checkpoint of a failed or cancelled one, with the same spec.

    It has the metrics up to there; the rollouts' texts and the log stay with the job that wrote them. Without a
    checkpoint it begins anew. (job, True), or (the retry there is, False). Conflict for a job in another status;
    Invalid when what its spec names is gone.
    """
    require(identity, Scope.JOBS_WRITE)
    source = find(session, identity, Job, job_id, lock=True)
    earlier = session.scalars(select(Job).where(of_team(identity, Job), Job.retry_of == job_id)).one_or_none()
    if earlier is not None:
        return earlier, False
    if source.status is JobStatus.SUCCEEDED:
        raise Conflict(f"{job_id} succeeded: there is nothing to retry; clone it to run it again")
    if source.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise Conflict(f"{job_id} is {source.status}: only a failed or a cancelled job can be retried")
    job, _ = jobs.create(
        session,
        identity,
        JobSpec.model_validate(source.spec),
        cloned_from=source.cloned_from,
        tags=source.tags,
        notes=source.notes,
        policy=policy,
    )
    job.retry_of = source.id
    own = checkpoints.newest_first(session, source.id)
    job.continues = source.id if own else source.continues
    begin = own[0].step if own else _inherited_step(session, source)
    job.step = begin
    job.seconds_per_step = source.seconds_per_step
    session.flush()
    if begin:
        _copy_metrics(session, source.id, job.id, begin)
        pyramid.copy(session, source, job, begin)
    message = f"goes on for {source.id} after step {begin}" if begin else f"begins {source.id} anew: no checkpoint"
    append(session, [event_row(job.id, 0, "message", message, {"retry_of": source.id, "step": begin})])
    return job, True


def _inherited_step(session: Session, source: Job) -> int:
    """Where a job began that has no checkpoint of its own."""
    found = [] if source.continues is None else checkpoints.newest_first(session, source.continues)
    return found[0].step if found else 0


def _copy_metrics(session: Session, source_id: str, job_id: str, last_step: int) -> None:
    columns = select(literal(job_id), JobMetric.step, literal(0), JobMetric.at, JobMetric.values)
    session.execute(
        insert(JobMetric).from_select(
            ["job_id", "step", "attempt", "at", "values"],
            columns.where(JobMetric.job_id == source_id, JobMetric.step <= last_step),
        )
    )
