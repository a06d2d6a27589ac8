"""What jobs and teams have used: charged with every renewal of a lease and at its end, to the job and to its team.

A second counts once: `jobs.charged_at` says up to when a lease is paid for, and moves in the transaction that pays. A
lease that expires was charged up to its last renewal, since nobody knows how long its trainer ran after that.
Old use decays: of what a team used one half-life ago, half counts in the fair share. The month's sum, for the limit on
GPU-hours, does not decay; it begins anew with a calendar month (UTC), and a charge belongs to the month it is made in.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from store.errors import LimitReached
from store.models import Checkpoint, Dataset, Job, Team
from store.policy import UNLIMITED, Limits, Policy
from store.status import LEASED, JobStatus

LEASED_SQL = ", ".join(f"'{status}'" for status in sorted(LEASED))

RECENT_SQL = """recent * power(0.5, least(greatest(
    extract(epoch FROM clock_timestamp() - at)::float8 / :half_life, 0), 1000))"""
"""A row of team_usage, decayed to now. Beyond 1,000 half-lives Postgres would call it an underflow."""

_COUNTED = 32
"""Up to how many running jobs of a team without limit are counted: beyond it teams count as equally busy."""

TEAM_SQL = f"""
    SELECT teams.id, leased.gpus AS running_gpus,
           nullif(coalesce(teams.max_running_gpus, :running_gpus), {UNLIMITED}) AS max_running_gpus,
           nullif(coalesce(teams.max_gpu_hours, :gpu_hours), {UNLIMITED}) * 3600.0 AS max_gpu_seconds,
           charged.gpu_seconds_this_month,
           charged.gpu + leased.gpus * :head_start AS gpu_share,
           charged.cpu + leased.cpu_slots * :head_start AS cpu_share
    FROM teams
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(leased_gpus), 0) AS gpus, count(*) FILTER (WHERE leased_gpus = 0) AS cpu_slots
        FROM (
            SELECT leased_gpus FROM jobs WHERE team_id = teams.id AND status IN ({LEASED_SQL})
            LIMIT CASE WHEN nullif(coalesce(teams.max_running_gpus, :running_gpus), {UNLIMITED}) IS NULL
                  THEN {_COUNTED} END
        ) AS held
    ) AS leased
    CROSS JOIN LATERAL (
        SELECT coalesce(sum({RECENT_SQL}) FILTER (WHERE kind = 'gpu'), 0) AS gpu,
               coalesce(sum({RECENT_SQL}) FILTER (WHERE kind = 'cpu'), 0) AS cpu,
               coalesce(sum(month_seconds) FILTER (
                   WHERE kind = 'gpu' AND month = CAST(date_trunc('month', clock_timestamp()) AS date)
               ), 0) AS gpu_seconds_this_month
        FROM team_usage WHERE team_id = teams.id
    ) AS charged
"""  # noqa: S608 - composed of constants of this package
"""Teams: what each may use and uses now, and how its share of either kind of slot stands. Values: `team_values`."""


def team_values(policy: Policy) -> dict[str, float | None]:
    return {
        "running_gpus": policy.limits.running_gpus,
        "gpu_hours": policy.limits.gpu_hours,
        "half_life": policy.half_life_seconds,
        "head_start": policy.head_start_seconds,
    }


# The row is locked before it is read, and the clock read after that: two charges at once cannot count a second twice.
_CHARGE = text(f"""
WITH held AS MATERIALIZED (
    SELECT id, team_id, leased_gpus, charged_at FROM jobs
    WHERE id = :job_id AND attempt = :attempt AND status IN ({LEASED_SQL}) FOR UPDATE
), due AS MATERIALIZED (
    SELECT *, greatest(clock_timestamp(), charged_at) AS now FROM held
), charged AS (
    UPDATE jobs SET
        charged_at = due.now,
        used_seconds = used_seconds + coalesce(extract(epoch FROM due.now - due.charged_at), 0),
        gpu_seconds = gpu_seconds + coalesce(extract(epoch FROM due.now - due.charged_at), 0) * due.leased_gpus,
        lease_until = CASE WHEN CAST(:lease_seconds AS float8) IS NULL THEN lease_until
                      ELSE clock_timestamp() + make_interval(secs => :lease_seconds) END
    FROM due WHERE jobs.id = due.id
    RETURNING jobs.status, due.team_id, due.leased_gpus, due.now,
              coalesce(extract(epoch FROM due.now - due.charged_at), 0)::float8 AS seconds
), paid AS (
    INSERT INTO team_usage (team_id, kind, recent, at, month, month_seconds)
    SELECT team_id, CASE WHEN leased_gpus > 0 THEN 'gpu' ELSE 'cpu' END, seconds * greatest(leased_gpus, 1), now,
           CAST(date_trunc('month', now) AS date), seconds * greatest(leased_gpus, 1)
    FROM charged
    ON CONFLICT (team_id, kind) DO UPDATE SET
        recent = excluded.recent + team_usage.recent * power(0.5, least(greatest(
            extract(epoch FROM excluded.at - team_usage.at)::float8 / :half_life, 0), 1000)),
        at = greatest(team_usage.at, excluded.at),
        month_seconds = excluded.month_seconds
            + CASE WHEN team_usage.month >= excluded.month THEN team_usage.month_seconds ELSE 0 END,
        month = greatest(team_usage.month, excluded.month)
)
SELECT status FROM charged
""")  # noqa: S608 - composed of constants of this package


def charge(
    session: Session, job_id: str, attempt: int, policy: Policy, *, lease_seconds: float | None = None
) -> JobStatus | None:
    """Charge a lease up to now and, given `lease_seconds`, renew it. The job's status; None when it is not held."""
    status = session.execute(
        _CHARGE,
        {
            "job_id": job_id,
            "attempt": attempt,
            "lease_seconds": lease_seconds,
            "half_life": policy.half_life_seconds,
        },
    ).scalar_one_or_none()
    return None if status is None else JobStatus(status)


@dataclass(frozen=True)
class Used:
    """What a team uses now, or has used this month."""

    running_gpus: int
    queued_jobs: int
    gpu_hours: float
    disk_bytes: int
    recent_gpu_seconds: float
    """Decayed to now, as the fair share sees them; so are the next."""
    recent_cpu_seconds: float


def limits_of(session: Session, team_id: str, policy: Policy) -> Limits:
    """A team's own limits, the platform's where it has none."""
    return policy.limits.of_team(session.get_one(Team, team_id))


def used(session: Session, team_id: str, policy: Policy) -> Used:
    charged: dict[str, Any] = {
        kind: (recent, month)
        for kind, recent, month in session.execute(
            text(
                f"SELECT kind, {RECENT_SQL}, CASE WHEN month = CAST(date_trunc('month', clock_timestamp()) AS date) "  # noqa: S608
                "THEN month_seconds ELSE 0 END FROM team_usage WHERE team_id = :team_id"
            ),
            {"team_id": team_id, "half_life": policy.half_life_seconds},
        )
    }
    gpus, cpus = charged.get("gpu", (0.0, 0.0)), charged.get("cpu", (0.0, 0.0))
    return Used(
        running_gpus=running_gpus(session, team_id),
        queued_jobs=_queued_jobs(session, team_id),
        gpu_hours=gpus[1] / 3600,
        disk_bytes=disk_bytes(session, team_id),
        recent_gpu_seconds=gpus[0],
        recent_cpu_seconds=cpus[0],
    )


def running_gpus(session: Session, team_id: str) -> int:
    statement = select(func.sum(Job.leased_gpus)).where(Job.team_id == team_id, Job.status.in_(LEASED))
    return session.scalars(statement).one() or 0


def disk_bytes(session: Session, team_id: str) -> int:
    """Of its data sets and of the checkpoints of its jobs, those that were deleted left out."""
    data = select(func.coalesce(func.sum(Dataset.bytes), 0)).where(
        Dataset.team_id == team_id, Dataset.deleted_at.is_(None)
    )
    checkpoints = (
        select(func.coalesce(func.sum(Checkpoint.bytes), 0))
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Job.team_id == team_id, Checkpoint.deleted_at.is_(None))
    )
    return int(session.scalars(data).one()) + int(session.scalars(checkpoints).one())


def admit_job(session: Session, team_id: str, policy: Policy) -> None:
    """LimitReached when the team may not queue another job."""
    limits = limits_of(session, team_id, policy)
    if limits.queued_jobs is not None:
        # So that of two requests at once the second counts the first one's job.
        session.execute(select(Team.id).where(Team.id == team_id).with_for_update(key_share=True))
        queued = _queued_jobs(session, team_id)
        if queued >= limits.queued_jobs:
            raise LimitReached(
                "queued_jobs",
                f"the team has {queued} jobs in the queue and its limit is {limits.queued_jobs}: wait until some have "
                "begun, or cancel some",
            )
    if limits.disk_bytes is not None and (kept := disk_bytes(session, team_id)) >= limits.disk_bytes:
        raise LimitReached("disk_bytes", _disk_full(kept, limits.disk_bytes))


def admit_bytes(session: Session, team_id: str, new: int, policy: Policy) -> None:
    """LimitReached when the team may not store so many bytes more."""
    limit = limits_of(session, team_id, policy).disk_bytes
    if limit is not None:
        session.execute(select(Team.id).where(Team.id == team_id).with_for_update(key_share=True))
        kept = disk_bytes(session, team_id)
        if kept + new > limit:
            raise LimitReached("disk_bytes", f"{_gigabytes(new)} more do not fit: {_disk_full(kept, limit)}")


def _queued_jobs(session: Session, team_id: str) -> int:
    statement = select(func.count()).select_from(Job).where(Job.team_id == team_id, Job.status == JobStatus.QUEUED)
    return session.scalars(statement).one()


def _disk_full(kept: int, limit: int) -> str:
    return (
        f"the team's data sets and checkpoints take {_gigabytes(kept)} of its limit of {_gigabytes(limit)}: delete "
        "data sets or jobs that are no longer needed"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
