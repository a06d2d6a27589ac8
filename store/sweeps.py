"""Sweeps: many jobs of one plan, made, steered and looked at together. Their rules are kept by store.sweep_rules.

A sweep owns no state that its jobs have: how far it is is theirs to say. Its members are told by their numbers; a retry
takes the place of the job it goes on for.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store import jobs, successors
from store.access import Identity, Scope, find, of_team, require
from store.errors import Conflict, LimitReached
from store.ids import new_id
from store.metrics import reading
from store.metrics.selection import Selection
from store.models import Dataset, Job, Sweep, SweepMember
from store.policy import DEFAULT, Policy
from store.status import TERMINAL, JobStatus
from trainer.spec.job import JobSpec
from trainer.spec.sweep import Member, Scalar, SweepSpec

CANCELLED = "cancelled"
_POINTS = 16
"""Of a member's curve: the lowest, the highest and the last are among them however few they are."""


@dataclass(frozen=True)
class Standing:
    """A member and how it does."""

    member: SweepMember
    job: Job | None
    """Without its spec; None where it was deleted."""
    last: float | None
    """The newest defined value of the sweep's metric."""
    best: float | None
    """The best one by the sweep's goal, and the step it was measured after."""
    best_step: int | None


@dataclass(frozen=True)
class Combination:
    """The members that differ in their seeds only."""

    point: dict[str, Scalar]
    members: int
    measured: int
    """How many of them have measured the metric."""
    last: float | None
    """Means over those that have."""
    best: float | None
    last_spread: float | None
    """Standard deviations (n - 1); None with fewer than two."""
    best_spread: float | None


def create(
    session: Session,
    identity: Identity,
    plan: SweepSpec,
    members: Sequence[Member],
    *,
    specs: Sequence[JobSpec],
    held: Mapping[str, Dataset],
    idempotency_key: str | None = None,
    policy: Policy = DEFAULT,
) -> tuple[Sweep, bool]:
    """Queue all members, or none. (sweep, True), or (the first sweep, False) when this key came before with this plan.

    members: those of the plan; specs: what each of them is to run, with the columns of its data sets filled in.
    Conflict, Invalid and LimitReached as `jobs.create`. The caller rings the doorbell after the commit.
    """
    require(identity, Scope.JOBS_WRITE)
    values = {
        "id": new_id("sweep"),
        "team_id": identity.team_id,
        "created_by": identity.key_id,
        "name": plan.name,
        "plan": _written(plan),
        "ruled": plan.budget is not None or plan.early_stopping is not None,
        "idempotency_key": idempotency_key,
        "idempotency_hash": None if idempotency_key is None else _digest(plan),
    }
    # Two requests with one key at the same moment: the second waits here and then finds the first one's sweep.
    made = insert(Sweep).values(values).on_conflict_do_nothing().returning(Sweep)
    sweep = session.scalars(made).one_or_none()
    if sweep is None:
        assert idempotency_key is not None  # noqa: S101 - nothing else conflicts
        earlier = of_key(session, identity, plan, idempotency_key)
        assert earlier is not None  # noqa: S101 - it is what the insert conflicted with
        return earlier, False
    for number, (member, spec) in enumerate(zip(members, specs, strict=True)):
        try:
            job, _ = jobs.create(session, identity, spec, tags=[f"sweep:{plan.name}"], policy=policy, held=held)
        except LimitReached as error:
            raise LimitReached(error.limit, f"{error}; the sweep has {len(members)} jobs, and none was made") from error
        session.add(SweepMember(sweep_id=sweep.id, number=number, job_id=job.id, point=member.point, seed=member.seed))
    session.flush()
    return sweep, True


def of_key(session: Session, identity: Identity, plan: SweepSpec, idempotency_key: str) -> Sweep | None:
    """The sweep that this key made; Conflict, where that was another plan."""
    require(identity, Scope.JOBS_WRITE)
    same_key = of_team(identity, Sweep) & (Sweep.idempotency_key == idempotency_key)
    earlier = session.scalars(select(Sweep).where(same_key)).one_or_none()
    if earlier is not None and earlier.idempotency_hash != _digest(plan):
        raise Conflict(f"this Idempotency-Key was used for {earlier.id}, with another plan")
    return earlier


def _written(plan: SweepSpec) -> dict[str, Any]:
    return plan.model_dump(mode="json", by_alias=True)


def _digest(plan: SweepSpec) -> str:
    return hashlib.sha256(json.dumps(_written(plan), sort_keys=True).encode()).hexdigest()


def get(session: Session, identity: Identity, sweep_id: str) -> Sweep:
    require(identity, Scope.READ)
    return find(session, identity, Sweep, sweep_id)


def list_page(session: Session, identity: Identity, limit: int, after: str | None = None) -> list[Sweep]:
    """Newest first."""
    require(identity, Scope.READ)
    statement = select(Sweep).where(of_team(identity, Sweep)).order_by(Sweep.id.desc()).limit(limit)
    return list(session.scalars(statement if after is None else statement.where(Sweep.id < after)))


def statuses(session: Session, sweep_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """By sweep, how many of its jobs have which status."""
    rows = session.execute(
        select(SweepMember.sweep_id, Job.status)
        .join(Job, Job.id == SweepMember.job_id)
        .where(SweepMember.sweep_id.in_(sweep_ids), Job.deleted_at.is_(None))
    )
    counted: dict[str, dict[str, int]] = {sweep_id: {} for sweep_id in sweep_ids}
    for sweep_id, status in rows:
        counted[sweep_id][str(status)] = counted[sweep_id].get(str(status), 0) + 1
    return counted


def sizes(session: Session, sweep_ids: Sequence[str]) -> dict[str, int]:
    """By sweep, how many members it has."""
    counted = select(SweepMember.sweep_id, func.count()).where(SweepMember.sweep_id.in_(sweep_ids))
    rows = session.execute(counted.group_by(SweepMember.sweep_id))
    return {row[0]: row[1] for row in rows}


def standings(session: Session, identity: Identity, sweep: Sweep) -> list[Standing]:
    """Every member in its order. In a transaction of one snapshot (`Database.transaction(snapshot=True)`)."""
    plan = SweepSpec.model_validate(sweep.plan)
    rows = session.execute(
        select(SweepMember, Job)
        .outerjoin(Job, (Job.id == SweepMember.job_id) & Job.deleted_at.is_(None))
        .where(SweepMember.sweep_id == sweep.id)
        .order_by(SweepMember.number)
        .options(jobs.WITHOUT_SPEC)
    ).all()
    heads = reading.heads(session, identity, [job.id for _, job in rows if job is not None])
    curves = reading.read(session, heads, Selection(exact=(plan.metric,)), _POINTS)
    found = []
    for member, job in rows:
        curve = None if job is None else curves[job.id][plan.metric]
        points = [] if curve is None else list(zip(curve.step, curve.value, strict=True))
        defined = [(step, float(value)) for step, value in points if isinstance(value, int | float)]
        best = min(defined, key=lambda point: (_loss(plan, point[1]), point[0]), default=None)
        found.append(
            Standing(
                member, job, defined[-1][1] if defined else None, best[1] if best else None, best[0] if best else None
            )
        )
    return found


def _loss(plan: SweepSpec, value: float) -> float:
    """Smaller is better."""
    return value if plan.goal == "min" else -value


def combinations(plan: SweepSpec, members: Sequence[Standing]) -> list[Combination]:
    """The members gathered over their seeds, the best combination first; those that measured nothing come last."""
    gathered: dict[str, list[Standing]] = {}
    for each in members:
        gathered.setdefault(json.dumps(each.member.point, sort_keys=True), []).append(each)
    found = []
    for of_point in gathered.values():
        last = [each.last for each in of_point if each.last is not None]
        best = [each.best for each in of_point if each.best is not None]
        found.append(
            Combination(
                point=of_point[0].member.point,
                members=len(of_point),
                measured=len(last),
                last=fmean(last) if last else None,
                best=fmean(best) if best else None,
                last_spread=stdev(last) if len(last) > 1 else None,
                best_spread=stdev(best) if len(best) > 1 else None,
            )
        )
    return sorted(found, key=lambda each: (each.best is None, 0.0 if each.best is None else _loss(plan, each.best)))


def cancel(session: Session, identity: Identity, sweep_id: str, reason: str = CANCELLED) -> Sweep:
    """End every member that has not ended. Twice is once."""
    sweep = _for_change(session, identity, sweep_id)
    _each(session, identity, sweep, jobs.request_cancel, lambda status: status not in TERMINAL)
    if sweep.ended_because is None:
        sweep.ended_because = reason
    return sweep


def pause(session: Session, identity: Identity, sweep_id: str) -> Sweep:
    """Hold every member that waits or runs. Twice is once."""
    sweep = _for_change(session, identity, sweep_id)
    pausable = {JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSING}
    _each(session, identity, sweep, jobs.request_pause, lambda status: status in pausable)
    return sweep


def resume(session: Session, identity: Identity, sweep_id: str, *, policy: Policy = DEFAULT) -> Sweep:
    """Go on with every member that is held, failed or was cancelled, from its last checkpoint. Twice is once.

    Those that the sweep's own rules ended stay ended. Conflict while members are being cancelled, and for a sweep whose
    budget is used up.
    """
    sweep = _for_change(session, identity, sweep_id)
    if sweep.ended_because not in (None, CANCELLED):
        raise Conflict(f"{sweep_id} cannot go on: {sweep.ended_because}")
    sweep.ended_because = None
    held = {JobStatus.PAUSED, JobStatus.PAUSING}
    _each(session, identity, sweep, jobs.resume, lambda status: status in held)
    for member, status in _members(session, sweep):
        if status is JobStatus.CANCELLING:
            raise Conflict(f"{member.job_id} is still being cancelled; try again in a moment")
        if status in (JobStatus.FAILED, JobStatus.CANCELLED) and member.stopped_because is None:
            assert member.job_id is not None  # noqa: S101 - it has a status
            job, _ = successors.retry(session, identity, member.job_id, policy=policy)
            member.job_id = job.id
    session.flush()
    return sweep


def _for_change(session: Session, identity: Identity, sweep_id: str) -> Sweep:
    require(identity, Scope.JOBS_WRITE)
    return find(session, identity, Sweep, sweep_id, lock=True)


def _members(session: Session, sweep: Sweep) -> list[tuple[SweepMember, JobStatus]]:
    """Those whose job is there, in the order of the jobs' ids, in which they are locked."""
    rows = session.execute(
        select(SweepMember, Job.status)
        .join(Job, Job.id == SweepMember.job_id)
        .where(SweepMember.sweep_id == sweep.id, Job.deleted_at.is_(None))
        .order_by(Job.id)
    )
    return [(member, status) for member, status in rows]


def _each(
    session: Session,
    identity: Identity,
    sweep: Sweep,
    act: Callable[[Session, Identity, str], Job],
    on: Callable[[JobStatus], bool],
) -> None:
    for member, status in _members(session, sweep):
        if on(status) and member.job_id is not None:
            try:
                act(session, identity, member.job_id)
            except Conflict:
                # It has ended, or is ending, since it was looked at: that is as good.
                continue
