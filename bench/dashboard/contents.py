"""Runs to be compared, made by SQL: a sweep over beta_pos and beta_neg with several seeds, all metrics, any length."""

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from bench.api.contents import KEYS
from store import job_words
from store.access import Identity
from store.database import Database
from store.ids import new_id
from store.metrics import pyramid
from trainer.spec import JobSpec
from trainer.spec.events import Metrics, Step

BETAS = ((0.5, 0.9), (0.0, 0.4, 0.75))
"""Of beta_pos and beta_neg."""


@dataclass(frozen=True)
class Made:
    """A run, and what its curves depend on."""

    job_id: str
    spec: JobSpec
    skill: float
    """How high its accuracy comes."""


def sweep(database: Database, identity: Identity, count: int, steps: int, *, status: str, dataset: str) -> list[Made]:
    """So many jobs of `steps` steps: every pair of betas with seed 0, then with seed 1, and so on."""
    made = []
    pairs = list(itertools.product(*BETAS))
    for number in range(count):
        (pos, neg), seed = pairs[number % len(pairs)], number // len(pairs)
        spec = JobSpec.model_validate(
            {
                "name": f"pos{pos:g}-neg{neg:g}-s{seed}",
                "model": {"id": "builtin/tiny-arith"},
                "data": {"train": dataset},
                "reward": {"kind": "exact"},
                "algorithm": {"preset": "asymgrpo", "beta_pos": pos, "beta_neg": neg},
                "rollout": {"group_size": 8, "max_new_tokens": 8},
                "optim": {"prompts_per_step": 8},
                "train": {"steps": max(steps, 1) * 10},
                "seed": seed,
            }
        )
        made.append(Made(new_id("job"), spec, 0.45 + 0.25 * pos + 0.2 * neg - 0.3 * neg * neg))
    rows = [
        {
            "id": each.job_id,
            "team": identity.team_id,
            "key": identity.key_id,
            "status": status,
            "name": each.spec.name,
            "words": job_words.beginnings(each.spec.name, ""),
            "spec": json.dumps(each.spec.model_dump(mode="json")),
            "steps": max(steps, 1) * 10,
            "step": steps,
        }
        for each in made
    ]
    with database.transaction() as session:
        session.execute(_JOBS, rows)
    return made


_JOBS = text("""
INSERT INTO jobs (id, team_id, created_by, name, words, tags, status, spec, gpus, demand, model, preset, max_attempts,
                  steps, step, attempt, started_at, finished_at, lease_until, leased_gpus, charged_at, batch)
VALUES (:id, :team, :key, :name, :words, ARRAY['sweep'], :status, CAST(:spec AS jsonb), 0, '0//', 'builtin/tiny-arith',
        'asymgrpo', 3, :steps, :step, 1, clock_timestamp() - make_interval(secs => 60 + 0.8 * :step),
        CASE WHEN :status = 'succeeded' THEN clock_timestamp() END,
        CASE WHEN :status = 'running' THEN clock_timestamp() + interval '6 hours' END,
        CASE WHEN :status = 'running' THEN 0 END, CASE WHEN :status = 'running' THEN clock_timestamp() END, 0)
""")

_SHAPED = (
    *("group/accuracy", "entropy/informative", "entropy/spurious", "policy/grad_norm", "perf/step_seconds"),
    *("progress/prompts", "progress/tokens", "progress/epoch"),
)
"""Metrics that are made to look like those of a run; the others are random numbers."""
_OTHERS = [key for key in KEYS if key not in _SHAPED]
# A function takes 100 arguments at most.
_HALVES = (_OTHERS[: len(_OTHERS) // 2], _OTHERS[len(_OTHERS) // 2 :])
_RANDOM = " || ".join(
    "jsonb_build_object({})".format(", ".join(f"'{key}', round(random()::numeric, 6)" for key in half))
    for half in _HALVES
)
_ROWS = text(f"""
INSERT INTO job_metrics (job_id, step, attempt, at, values)
SELECT :job, step, 1, clock_timestamp() - make_interval(secs => (:steps - step) * 0.8), jsonb_build_object(
    'group/accuracy', round((:skill * (1 - exp(-4.0 * step / :steps)) + 0.06 * (random() - 0.5))::numeric, 6),
    'entropy/informative', CASE WHEN random() > 0.01 THEN
        round((0.25 + 0.9 * exp(-3.0 * step / :steps) + 0.1 * (random() - 0.5))::numeric, 6) END,
    'entropy/spurious', round((0.5 + 0.8 * exp(-2.0 * step / :steps) + 0.15 * (random() - 0.5))::numeric, 6),
    'policy/grad_norm', round((0.5 + 0.2 * random()
        + CASE WHEN random() < 0.004 THEN 40 * random() ELSE 0 END)::numeric, 6),
    'perf/step_seconds', round((0.7 + 0.2 * random())::numeric, 6),
    'progress/prompts', step * 8, 'progress/tokens', step * 260, 'progress/epoch', round(step / 50.0, 4)
) || {_RANDOM}
FROM generate_series(1, :steps) AS step
""")  # noqa: S608 - the keys of our own vocabulary
_COPY = (
    text("""
INSERT INTO job_metrics (job_id, step, attempt, at, values)
SELECT :job, step, attempt, at, values FROM job_metrics WHERE job_id = :source
"""),
    text("""
INSERT INTO job_metric_chunks (job_id, level, key, chunk, count, steps, numbers, others)
SELECT :job, level, key, chunk, count, steps, numbers, others FROM job_metric_chunks WHERE job_id = :source
"""),
    text(
        "UPDATE jobs SET metrics_sealed = source.metrics_sealed FROM jobs AS source"
        " WHERE jobs.id = :job AND source.id = :source"
    ),
)


def fill(database: Database, made: Sequence[Made], steps: int, distinct: int) -> None:
    """Give the first `distinct` runs curves of their own, with the pyramid by the real code; the others have copies."""
    for each in made[:distinct]:
        with database.transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = 0"))
            session.execute(_ROWS, {"job": each.job_id, "steps": steps, "skill": each.skill})
    pyramid.catch_up(database)
    for number, each in enumerate(made[distinct:]):
        with database.transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = 0"))
            for statement in _COPY:
                session.execute(statement, {"job": each.job_id, "source": made[number % distinct].job_id})
    with database.transaction() as session:
        session.execute(text("ANALYZE job_metrics, job_metric_chunks, jobs"))


_ROLLOUTS = text("""
INSERT INTO rollouts (job_id, step, group_index, sample_index, attempt, row, prompt, completion, answer,
                      reward, correct, advantage, tokens, truncated, entropy)
SELECT :job, step, g, s, 1, row, a || '+' || b || '=', (a + b)::text, (a + b)::text,
       CASE WHEN correct THEN 1 ELSE 0 END, correct, 0, 3, false, 0.4
FROM generate_series(1, :steps) AS step, generate_series(0, 3) AS g, generate_series(0, 7) AS s
CROSS JOIN LATERAL (SELECT (step * 7 + g * 31) % 120 + 1 AS row) AS data
CROSS JOIN LATERAL (SELECT row % 89 + 10 AS a, (row * 7) % 83 + 10 AS b,
                           random() + 0 * s < :skill * (0.4 + (row % 10) / 10.0) AS correct) AS sample
""")


def rollouts(database: Database, made: Sequence[Made], steps: int) -> None:
    """Four groups of eight for each of the first steps, the same rows of the data at the same step of every run."""
    with database.transaction() as session:
        for each in made:
            session.execute(_ROLLOUTS, {"job": each.job_id, "steps": steps, "skill": each.skill})


def said(step: int, draw: random.Random) -> Step:
    """What a trainer says of a step, every key of it."""
    values: Metrics = {key: round(draw.random(), 6) for key in _OTHERS}
    values |= {
        "group/accuracy": 0.6 + 0.05 * draw.random(),
        "entropy/informative": 0.3 + 0.1 * draw.random(),
        "entropy/spurious": 0.6 + 0.1 * draw.random(),
        "policy/grad_norm": 0.5 + 0.2 * draw.random(),
        "perf/step_seconds": 0.8,
        "progress/prompts": step * 8,
        "progress/tokens": step * 260,
        "progress/epoch": step / 50,
    }
    return Step(time=0.0, step=step, metrics=values)
