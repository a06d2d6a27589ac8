"""What the database holds when something is measured: a team, its jobs, long runs; what a trainer says of a step."""

import json
import random
from collections.abc import Iterator, Sequence

from sqlalchemy import text

from store import keys
from store.access import Identity, Role
from store.database import Database
from store.ids import new_id
from store.metrics import pyramid
from trainer.spec import JobSpec
from trainer.spec.events import Metrics, Step
from trainer.spec.metric_keys import METRICS

KEYS = [metric.template for metric in METRICS if "{" not in metric.template and metric.template != "group/histogram"]
"""What a step of a run without benchmarks has, about."""
WHOLE = frozenset(metric.template for metric in METRICS if metric.unit in ("count", "tokens", "bytes"))


def spec(dataset_id: str) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "bench",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": dataset_id},
            "reward": {"kind": "exact"},
            "rollout": {"max_new_tokens": 8},
            "optim": {"prompts_per_step": 8},
            "train": {"steps": 100_000},
        }
    )


def team(database: Database, count: int) -> tuple[Identity, list[str]]:
    """A team, and so many of its keys."""
    with database.transaction() as session:
        team_id = keys.create_team(session, "bench").id
        made = [keys.create(session, team_id, "bench", Role.MEMBER) for _ in range(count)]
    return Identity(made[0][0].id, team_id, Role.MEMBER), [plain for _, plain in made]


_JOBS = text("""
INSERT INTO jobs (id, team_id, created_by, name, status, spec, gpus, demand, model, max_attempts, steps, step, attempt,
                  started_at, finished_at)
SELECT id, :team, :key, 'bench', :status, CAST(:spec AS jsonb), 0, '0//', 'builtin/tiny-arith', 3, 100000, 0, 1,
       clock_timestamp(), CASE WHEN :status = 'succeeded' THEN clock_timestamp() END
FROM unnest(CAST(:ids AS text[])) AS id
""")


def jobs(database: Database, identity: Identity, count: int, status: str = "succeeded") -> list[str]:
    """Jobs that ended, or that run under a lease which nobody holds: their ids."""
    ids = [new_id("job") for _ in range(count)]
    values = {"team": identity.team_id, "key": identity.key_id, "status": status}
    content = json.dumps(spec(new_id("ds")).model_dump(mode="json"))
    with database.transaction() as session:
        session.execute(_JOBS, {**values, "spec": content, "ids": ids})
        # As autovacuum does within a minute; without, Postgres takes a team of a hundred thousand jobs for one of few.
        session.execute(text("ANALYZE jobs"))
    return ids


def lease(database: Database, job_ids: Sequence[str]) -> None:
    """Let their attempt 1 hold them for an hour, so that it may record."""
    with database.transaction() as session:
        session.execute(
            text(
                "UPDATE jobs SET status = 'running', lease_until = clock_timestamp() + interval '1 hour',"
                " leased_gpus = 0, charged_at = clock_timestamp(), finished_at = NULL WHERE id = ANY(:ids)"
            ),
            {"ids": list(job_ids)},
        )


_RUN = text("""
INSERT INTO job_metrics (job_id, step, attempt, values)
SELECT :job, step, 1, jsonb_build_object(
    'reward/mean', 1 - exp(-step / 30000.0) + 0.2 * (random() - 0.5),
    'entropy/informative', CASE WHEN random() > 0.001 THEN 0.5 + 0.1 * random() END,
    'policy/loss', random() - 0.5,
    'rollout/length_max', CAST(500 * random() AS int))
FROM generate_series(1, :steps) AS step
""")


def long_runs(database: Database, job_ids: Sequence[str], steps: int) -> int:
    """Give each job so many steps with four metrics, and the pyramid, by the real code; how many values that are."""
    for job_id in job_ids:
        with database.transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = 0"))
            session.execute(_RUN, {"job": job_id, "steps": steps})
    pyramid.catch_up(database)
    with database.transaction() as session:
        session.execute(text("ANALYZE job_metrics, job_metric_chunks, jobs"))
    return 4 * steps * len(job_ids)


def steps_said(first: int, count: int, seed: int = 0) -> Iterator[Step]:
    """What a trainer says of the steps from `first` on: every key, some whole numbers, some undefined."""
    draw = random.Random(seed)  # noqa: S311
    for step in range(first, first + count):
        yield Step(time=float(step), step=step, metrics={key: _value(draw, key) for key in KEYS})


def _value(draw: random.Random, key: str) -> float | int | None:
    if key in WHOLE:
        return draw.randrange(10_000)
    return None if draw.random() < 0.02 else draw.random()


def metrics_said(step: int, draw: random.Random) -> Metrics:
    return {key: _value(draw, key) for key in KEYS}
