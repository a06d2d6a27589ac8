"""What a sweep's plan says about ending members: its budget, and the median rule. Kept by the workers, now and then.

One worker at a time looks after a sweep (the others pass over a locked one), acting for whoever made it.
"""

import logging
from collections.abc import Mapping
from statistics import median

from sqlalchemy import Double, and_, cast, func, select
from sqlalchemy.orm import Session

from store import jobs, sweeps
from store.access import Identity, Role
from store.errors import Conflict
from store.models import Job, JobMetric, Sweep, SweepMember
from store.status import TERMINAL, JobStatus
from trainer.spec.sweep import MedianRule, SweepSpec

log = logging.getLogger(__name__)

_AT_ONCE = 50


def keep_rules(session: Session) -> None:
    """End what the plans of the sweeps that are under way say is to end."""
    under_way = (
        select(Sweep)
        .where(
            Sweep.ruled,
            Sweep.ended_because.is_(None),
            select(SweepMember)
            .join(Job, Job.id == SweepMember.job_id)
            .where(SweepMember.sweep_id == Sweep.id, Job.status.not_in(TERMINAL))
            .exists(),
        )
        .order_by(Sweep.id)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    for sweep in session.scalars(under_way).all():
        plan = SweepSpec.model_validate(sweep.plan)
        if not _over_budget(session, sweep, plan) and plan.early_stopping is not None:
            _end_hopeless(session, sweep, plan, plan.early_stopping)


def used_hours(session: Session, sweep_id: str) -> float:
    """Of GPUs, or for jobs without one of their running; of jobs that a retry has replaced, too."""
    newest = select(SweepMember.job_id).where(SweepMember.sweep_id == sweep_id)
    # What a lease has used is noted at its renewals.
    own = select(Job.id, Job.retry_of, Job.gpu_seconds, Job.used_seconds).where(Job.id.in_(newest)).cte(recursive=True)
    before = select(Job.id, Job.retry_of, Job.gpu_seconds, Job.used_seconds).join(own, Job.id == own.c.retry_of)
    chain = own.union_all(before)
    seconds = func.sum(func.coalesce(func.nullif(chain.c.gpu_seconds, 0), chain.c.used_seconds))
    return float(session.scalar(select(seconds)) or 0) / 3600


def _over_budget(session: Session, sweep: Sweep, plan: SweepSpec) -> bool:
    if plan.budget is None or (used := used_hours(session, sweep.id)) < plan.budget.hours:
        return False
    reason = f"its budget of {plan.budget.hours:g} hours is used up ({used:.3g})"
    sweeps.cancel(session, _maker(sweep), sweep.id, reason)
    log.info("%s: %s", sweep.id, reason)
    return True


def _end_hopeless(session: Session, sweep: Sweep, plan: SweepSpec, rule: MedianRule) -> None:
    """The median rule, each running member judged after every so many steps: at the last such step it has done."""
    running = session.execute(
        select(SweepMember, Job.id, Job.step)
        .join(Job, Job.id == SweepMember.job_id)
        .where(SweepMember.sweep_id == sweep.id, Job.status == JobStatus.RUNNING, SweepMember.stopped_because.is_(None))
    ).all()
    for member, job_id, step in running:
        judged = step // rule.after_steps * rule.after_steps
        if judged <= (member.judged_step or 0):
            continue
        member.judged_step = judged
        best, others = _so_far(session, sweep, plan, job_id, judged)
        if best is None or len(others) < rule.least_members:
            continue
        middle = median(others.values())
        if best < middle if plan.goal == "max" else best > middle:
            member.stopped_because = (
                f"after step {judged} its best {plan.metric} was {best:.4g}; the median of the means of "
                f"{len(others)} others up to there is {middle:.4g}"
            )
            try:
                jobs.request_cancel(session, _maker(sweep), job_id)
            except Conflict:
                # It has ended by itself since it was looked at.
                member.stopped_because = None


def _so_far(
    session: Session, sweep: Sweep, plan: SweepSpec, job_id: str, step: int
) -> tuple[float | None, Mapping[str, float]]:
    """The best value of a member up to a step, and the mean of each other one that has come as far."""
    text = JobMetric.values[plan.metric].astext
    is_number = func.jsonb_typeof(JobMetric.values[plan.metric]) == "number"
    value = cast(text, Double)
    extreme = func.max(value) if plan.goal == "max" else func.min(value)
    rows = session.execute(
        select(JobMetric.job_id, func.avg(value), extreme)
        .join(SweepMember, SweepMember.job_id == JobMetric.job_id)
        .join(Job, Job.id == JobMetric.job_id)
        .where(
            SweepMember.sweep_id == sweep.id,
            Job.step >= step,
            JobMetric.step <= step,
            and_(JobMetric.values.has_key(plan.metric), is_number),
        )
        .group_by(JobMetric.job_id)
    ).all()
    best = next((float(found) for of, _, found in rows if of == job_id), None)
    return best, {of: float(mean) for of, mean, _ in rows if of != job_id}


def _maker(sweep: Sweep) -> Identity:
    return Identity(sweep.created_by, sweep.team_id, Role.MEMBER)
