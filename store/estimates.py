"""What a job will take before it has begun: told from its team's own last runs of the same model."""

import statistics
from dataclasses import dataclass

from sqlalchemy import Integer, select
from sqlalchemy.orm import Session

from store import cluster, usage
from store.access import Identity, of_team
from store.demand import Demand
from store.errors import LimitReached
from store.models import Job
from store.policy import Policy
from trainer.spec import JobSpec

_LOOKED_AT = 20
_RUNS = 5
"""The median of so many: one that was slowed down must not set the pace."""


@dataclass(frozen=True)
class Estimate:
    """Of the training steps; evaluations, the model's load and the wait in the queue come on top."""

    seconds_per_step: float
    seconds: float
    gpu_hours: float
    runs: list[str]
    """The jobs that it is told from."""
    scaled: bool
    """Some of them sampled another number of rollouts in a step, and their pace was scaled by that."""


def estimate(session: Session, identity: Identity, spec: JobSpec) -> Estimate | None:
    """None where the team has measured no step of this model yet.

    The runs whose steps are most like this job's count: first those that ask for the same GPUs, then those with about
    as many rollouts in a step. Responses are taken to be as long as they were.
    """
    demand = Demand.of(spec.resources)
    prompts = Job.spec["optim"]["prompts_per_step"].astext.cast(Integer)
    group = Job.spec["rollout"]["group_size"].astext.cast(Integer)
    rows = session.execute(
        select(Job.id, Job.seconds_per_step, prompts * group, Job.demand == str(demand))
        .where(
            of_team(identity, Job),
            Job.model == spec.model.id,
            Job.started_at.is_not(None),
            Job.seconds_per_step.is_not(None),
        )
        .order_by(Job.id.desc())
        .limit(_LOOKED_AT)
    ).all()
    if any(same_demand for *_, same_demand in rows):
        rows = [row for row in rows if row[3]]
    ours = spec.optim.prompts_per_step * spec.rollout.group_size
    nearest = sorted(rows, key=lambda row: max(ours / row[2], row[2] / ours))[:_RUNS]
    if not nearest:
        return None
    pace = statistics.median(seconds * ours / rollouts for _, seconds, rollouts, _ in nearest)
    seconds = pace * spec.train.steps
    return Estimate(
        seconds_per_step=pace,
        seconds=seconds,
        gpu_hours=seconds * _gpus(session, demand) / 3600,
        runs=[row[0] for row in nearest],
        scaled=any(row[2] != ours for row in nearest),
    )


def _gpus(session: Session, demand: Demand) -> int:
    """How many it will hold; one that leaves it to Asym, one GPU if there is any."""
    if demand.gpus is not None:
        return demand.gpus
    return max((demand.takes(room.gpus) for room in cluster.rooms(session)), default=0)


def obstacles(session: Session, identity: Identity, spec: JobSpec, told: Estimate | None, policy: Policy) -> list[str]:
    """What the team's limits, and the job's own, will do to it: sentences."""
    found = []
    try:
        usage.admit_job(session, identity.team_id, policy)
    except LimitReached as error:
        found.append(f"it would be refused now: {error}")
    if told is None:
        return found
    hours = usage.limits_of(session, identity.team_id, policy).gpu_hours
    if hours is not None and told.gpu_hours > 0:
        left = max(hours - usage.used(session, identity.team_id, policy).gpu_hours, 0.0)
        if told.gpu_hours > left:
            found.append(
                f"it takes about {told.gpu_hours:.3g} GPU-hours, and of the team's {hours} this month {left:.3g} are "
                "left: what runs is never stopped for it, but nothing of the team starts once they are used up"
            )
    limit = spec.resources.max_runtime
    if limit is not None and told.seconds > limit:
        step = int(limit / told.seconds_per_step)
        found.append(
            f"resources.max_runtime ({limit:g} s) ends it at about step {step} of {spec.train.steps}: it takes about "
            f"{told.seconds:.0f} s"
        )
    return found
