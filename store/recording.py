"""Writing what a trainer reports into the job's tables, behind the fence and once only."""

from typing import Any

from sqlalchemy import delete, func, insert, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from store import samplers
from store.artifacts import attempt_path
from store.fencing import hold
from store.journal import EventType, announce, append, event_row, storable
from store.metrics import pyramid
from store.models import Checkpoint, Job, JobLog, JobMetric, JobMetricSupersession, Rollout
from trainer.spec import events as trainer

_PACE_WEIGHT = 0.2
"""Weight of the newest step in the moving average of seconds per step."""


def record(
    session: Session, job_id: str, attempt: int, events: list[trainer.Event], log_lines: list[str], *, batch: int
) -> None:
    """Store one batch of an attempt's events and log lines. LeaseLost when the attempt no longer holds the job.

    An attempt numbers its batches from 1. A number that is not above the last stored one is a replay (the worker
    never heard of the commit) and changes nothing, so a batch must stay as it is until it is known to be stored.
    """
    job = hold(session, job_id, attempt)
    if batch <= job.batch:
        return
    job.batch = batch
    rows = _Rows(job_id, attempt)
    for event in events:
        if isinstance(event, trainer.Started):
            # What came before it in this batch must be in the tables before its effect on them.
            rows.write(session)
            pyramid.extend(session, job, rows.steps)
            rows = _Rows(job_id, attempt)
            _supersede(session, job, event.resumed_from)
        rows.add(job, event)
    rows.logs = [{"job_id": job_id, "attempt": attempt, "line": storable(line)} for line in log_lines]
    rows.write(session)
    pyramid.extend(session, job, rows.steps)
    session.flush()
    announce(session, job_id)


def _supersede(session: Session, job: Job, resumed_from: int) -> None:
    """Forget the steps after `resumed_from`: this attempt does them again."""
    gone = session.execute(delete(JobMetric).where(JobMetric.job_id == job.id, JobMetric.step > resumed_from))
    if gone.rowcount:  # type: ignore[attr-defined]
        revision = func.nextval("job_metrics_revision_seq")
        session.execute(insert(JobMetricSupersession).values(job_id=job.id, revision=revision, kept=resumed_from))
        pyramid.forget_after(session, job, resumed_from)
    session.execute(delete(Rollout).where(Rollout.job_id == job.id, Rollout.step > resumed_from))
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.job_id == job.id, Checkpoint.step > resumed_from, Checkpoint.superseded_at.is_(None))
        .values(superseded_at=func.clock_timestamp())
    )


class _Rows:
    """The rows of one batch, by table."""

    def __init__(self, job_id: str, attempt: int) -> None:
        self._key = {"job_id": job_id, "attempt": attempt}
        self._job_id = job_id
        self._attempt = attempt
        self.journal: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.rollouts: list[dict[str, Any]] = []
        self.checkpoints: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.sampled: list[trainer.Sampled] = []

    @property
    def steps(self) -> set[int]:
        """Those with something measured."""
        return {row["step"] for row in self.metrics}

    def add(self, job: Job, event: trainer.Event) -> None:
        match event:
            case trainer.Started():
                job.step, job.steps = event.resumed_from, event.steps
                self._note("message", "training starts", event)
            case trainer.Preflight():
                job.preflight = event.report.model_dump(mode="json")
                self._note("preflight", f"preflight: {event.report.summary}", event)
            case trainer.Step():
                job.step = max(job.step, event.step)
                job.seconds_per_step = _pace(job.seconds_per_step, event.metrics.get("perf/step_seconds"))
                job.accuracy = _number(event.metrics.get("group/accuracy"), job.accuracy)
                self._measured(event.step, event.metrics)
                self._note("step", f"step {event.step} of {job.steps}", event)
            case trainer.Eval():
                self._measured(event.step, event.metrics)
                self._note("eval", f"evaluated {event.name} after step {event.step}", event)
            case trainer.Rollouts():
                self.rollouts += [self._rollout(event.step, rollout) for rollout in event.rollouts]
            case trainer.Checkpoint():
                self.checkpoints.append(
                    self._key
                    | {
                        "step": event.step,
                        "path": f"{attempt_path(self._job_id, self._attempt)}/{event.path}",
                        "manifest_sha256": event.manifest_sha256,
                        "bytes": event.bytes,
                        "score": event.score,
                    }
                )
                self._note("checkpoint", f"checkpoint of step {event.step}", event)
            case trainer.Log():
                self._note("message", event.message, event, event.level)
            case trainer.Sampled():
                self.sampled.append(event)
            case trainer.Failed():
                self._note("message", event.message, event, "error")
            case trainer.Stopped():
                self._note("message", f"training stopped after step {event.step}", event)
            case trainer.Done():
                self._note("message", f"training ends with step {event.step}", event)

    def _note(self, type: EventType, message: str, event: trainer.Event, level: str = "info") -> None:
        data = event.model_dump(mode="json", exclude={"type", "message", "level"})
        self.journal.append(event_row(self._job_id, self._attempt, type, message, data, level))

    def _measured(self, step: int, values: trainer.Metrics) -> None:
        self.metrics.append(self._key | {"step": step, "values": values})

    def _rollout(self, step: int, rollout: trainer.Rollout) -> dict[str, Any]:
        fields: dict[str, Any] = rollout.model_dump()
        place = {"step": step, "group_index": fields.pop("group"), "sample_index": fields.pop("sample")}
        return self._key | place | storable(fields)

    def write(self, session: Session) -> None:
        """Insert or replace them. Rows of a step that is there already take the newer values."""
        append(session, self.journal)
        if self.metrics:
            new = upsert(JobMetric)
            merged = {
                "attempt": new.excluded.attempt,
                "at": func.clock_timestamp(),
                "values": JobMetric.values.op("||")(new.excluded["values"]),
                "revision": new.excluded.revision,
            }
            session.execute(new.on_conflict_do_update(index_elements=["job_id", "step"], set_=merged), self.metrics)
        if self.rollouts:
            _replace(session, Rollout, ["job_id", "step", "group_index", "sample_index"], self.rollouts)
        if self.checkpoints:
            _replace(session, Checkpoint, ["job_id", "step"], self.checkpoints)
        if self.logs:
            session.execute(insert(JobLog), self.logs)
        if self.sampled:
            samplers.answer(session, self._job_id, self._attempt, self.sampled)


def _replace(session: Session, entity: type[Rollout | Checkpoint], key: list[str], rows: list[dict[str, Any]]) -> None:
    new = upsert(entity)
    columns = [column.name for column in entity.__table__.columns if column.name not in key]
    session.execute(
        new.on_conflict_do_update(index_elements=key, set_={name: new.excluded[name] for name in columns}), rows
    )


def _number(value: object, otherwise: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else otherwise


def _pace(average: float | None, seconds: object) -> float | None:
    if not isinstance(seconds, int | float):
        return average
    return float(seconds) if average is None else (1 - _PACE_WEIGHT) * average + _PACE_WEIGHT * seconds
