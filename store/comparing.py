"""What is asked of several jobs at once beside their curves: what they measured, their clocks, common prompts, rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from store.access import Identity, of_team
from store.errors import NotFound
from store.metrics.levels import SPAN
from store.models import Job, JobMetric

STEP_SECONDS = "perf/step_seconds"
PROMPT_CHARACTERS = 400
"""Of a prompt that is shown to be recognised, not to be read."""


def jobs(session: Session, identity: Identity, job_ids: Sequence[str]) -> list[Job]:
    """In the order of the ids, whole. NotFound for the first that is not the team's."""
    for job_id in job_ids:
        if not job_id.isascii() or "\0" in job_id:
            raise NotFound("job", job_id)
    found = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids), of_team(identity, Job)))}
    for job_id in job_ids:
        if job_id not in found:
            raise NotFound("job", job_id)
    return [found[job_id] for job_id in job_ids]


# A jump from key to key in the index of the chunks (Postgres has no skip scan for DISTINCT), and the newest rows: a key
# that is only in one between them is named once its chunk is complete, 128 steps later at most.
_KEYS = text("""
WITH RECURSIVE named (job_id, key) AS (
    SELECT job.id, (SELECT min(key) FROM job_metric_chunks WHERE job_id = job.id AND level = 0)
    FROM unnest(CAST(:jobs AS text[])) AS job (id)
    UNION ALL
    SELECT named.job_id, (
        SELECT min(key) FROM job_metric_chunks
        WHERE job_id = named.job_id AND level = 0 AND job_metric_chunks.key > named.key
    ) FROM named WHERE named.key IS NOT NULL
)
SELECT job_id, key FROM named WHERE key IS NOT NULL
UNION
SELECT job.id, measured.key
FROM unnest(CAST(:jobs AS text[]), CAST(:sealed AS int[])) AS job (id, sealed)
CROSS JOIN LATERAL (
    SELECT values FROM job_metrics WHERE job_id = job.id AND step >= job.sealed
    ORDER BY step DESC LIMIT CASE WHEN job.sealed = 0 THEN 128 ELSE 8 END
) AS newest
CROSS JOIN LATERAL jsonb_object_keys(newest.values) AS measured (key)
""")


def measured_keys(session: Session, found: Sequence[Job]) -> dict[str, list[str]]:
    """By job, the keys of its metrics, sorted."""
    keys: dict[str, list[str]] = {job.id: [] for job in found}
    asked = {"jobs": [job.id for job in found], "sealed": [job.metrics_sealed for job in found]}
    for job_id, key in session.execute(_KEYS, asked):
        keys[job_id].append(key)
    return {job_id: sorted(names) for job_id, names in keys.items()}


@dataclass
class Clock:
    """What a run had taken by the end of step `step[i]`, both in seconds."""

    step: list[int] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    """Since it was started, by the database's clock when the step was stored: waiting and pauses are in it."""
    trained: list[float] = field(default_factory=list)
    """In its steps (perf/step_seconds) up to there; steps that were taken back do not count."""


# Whole chunks, then the rows behind them: 128 steps a time, whose last one's moment stands for all.
_TRAINED = text("""
SELECT job_id, (chunk + 1) * :span - 1 AS step, CASE
    WHEN numbers IS NOT NULL THEN (SELECT sum(n) FROM unnest(numbers) AS n)
    ELSE (SELECT sum(CAST(CAST(n AS text) AS float8)) FROM jsonb_array_elements(others) AS n
          WHERE jsonb_typeof(n) = 'number') END
FROM job_metric_chunks WHERE job_id = ANY(CAST(:jobs AS text[])) AND level = 0 AND key = :key
UNION ALL
SELECT job_id, step, CAST(CAST(values -> CAST(:key AS text) AS text) AS float8)
FROM unnest(CAST(:jobs AS text[]), CAST(:sealed AS int[])) AS job (id, sealed)
JOIN job_metrics ON job_metrics.job_id = job.id AND job_metrics.step >= job.sealed
WHERE jsonb_typeof(values -> CAST(:key AS text)) = 'number'
ORDER BY 1, 2
""")
_WALL = text("""
SELECT job.id, job.step, extract(epoch FROM stored.at - began.at)
FROM unnest(CAST(:jobs AS text[]), CAST(:steps AS int[])) AS job (id, step)
JOIN jobs ON jobs.id = job.id
CROSS JOIN LATERAL (
    SELECT at FROM job_metrics WHERE job_id = job.id AND step <= job.step ORDER BY step DESC LIMIT 1
) AS stored
CROSS JOIN LATERAL (
    SELECT least(jobs.started_at, (SELECT at FROM job_metrics WHERE job_id = job.id ORDER BY step LIMIT 1)) AS at
) AS began
ORDER BY 1, 2
""")


def clocks(session: Session, found: Sequence[Job], points: int) -> dict[str, Clock]:
    """By job, at most so many points of its clock, the last one among them; linear in between is close."""
    by_job = {job.id: Clock() for job in found}
    asked = {"jobs": list(by_job), "sealed": [job.metrics_sealed for job in found], "key": STEP_SECONDS, "span": SPAN}
    for job_id, step, seconds in session.execute(_TRAINED, asked):
        clock = by_job[job_id]
        clock.trained.append((clock.trained[-1] if clock.trained else 0.0) + (seconds or 0.0))
        clock.step.append(step)
    for clock in by_job.values():
        every = max(1, -(-len(clock.step) // points))
        kept = range((len(clock.step) - 1) % every, len(clock.step), every)
        clock.step, clock.trained = [clock.step[at] for at in kept], [clock.trained[at] for at in kept]
    places = [(job_id, step) for job_id, clock in by_job.items() for step in clock.step]
    asked = {"jobs": [job_id for job_id, _ in places], "steps": [step for _, step in places]}
    for job_id, _, seconds in session.execute(_WALL, asked):
        by_job[job_id].wall.append(float(seconds))
    return by_job


@dataclass(frozen=True)
class Solved:
    """What one run made of one prompt."""

    samples: int
    correct: int
    reward: float
    """Their mean."""


@dataclass(frozen=True)
class Prompt:
    """A row of the data that all of the runs were given, and what each made of it, in the order of the jobs."""

    row: int
    text: str
    """Its beginning."""
    solved: list[Solved]


_PROMPTS = text("""
WITH sampled AS (
    SELECT job_id, row, count(*) AS samples, count(*) FILTER (WHERE correct) AS correct, avg(reward) AS reward,
           min(step) AS step
    FROM rollouts
    WHERE job_id = ANY(CAST(:jobs AS text[])) AND step BETWEEN :from_step AND :to_step
    GROUP BY job_id, row
), common AS (
    SELECT row FROM sampled GROUP BY row HAVING count(*) = :count
)
SELECT sampled.job_id, sampled.row, samples, correct, reward, (
    SELECT left(prompt, :characters) FROM rollouts
    WHERE rollouts.job_id = sampled.job_id AND rollouts.step = sampled.step AND rollouts.row = sampled.row LIMIT 1
)
FROM sampled JOIN common USING (row) ORDER BY row LIMIT :limit
""")


def common_prompts(
    session: Session, found: Sequence[Job], from_step: int, to_step: int, limit: int
) -> tuple[list[Prompt], bool]:
    """The rows of which every job has stored rollouts of these steps, by number, and whether there are more of them.

    Whether the runs were trained on the same data is the caller's to know.
    """
    asked = {
        "jobs": [job.id for job in found],
        "count": len(found),
        "from_step": from_step,
        "to_step": to_step,
        "characters": PROMPT_CHARACTERS,
        "limit": (limit + 1) * len(found),
    }
    rows: dict[int, dict[str, Any]] = {}
    texts: dict[int, str] = {}
    for job_id, row, samples, correct, reward, prompt in session.execute(_PROMPTS, asked):
        rows.setdefault(row, {})[job_id] = Solved(samples, correct, reward)
        texts.setdefault(row, prompt)
    prompts = [Prompt(row, texts[row], [by_job[job.id] for job in found]) for row, by_job in rows.items()]
    return prompts[:limit], len(prompts) > limit


def rows_after(
    session: Session, job_id: str, step: int, limit: int
) -> Iterator[tuple[int, int, Any, Mapping[str, Any]]]:
    """(step, attempt, when it was stored, values) of the steps behind this one, in order. The job was looked up."""
    columns = (JobMetric.step, JobMetric.attempt, JobMetric.at, JobMetric.values)
    statement = select(*columns).where(JobMetric.job_id == job_id, JobMetric.step > step)
    for row in session.execute(statement.order_by(JobMetric.step).limit(limit)):
        yield row.step, row.attempt, row.at, row.values
