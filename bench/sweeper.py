"""What one sweep costs with many jobs in the table: `bench recovery --only sweeper`. A real Postgres, made for it."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from store import keys, schema, workers
from store.access import Role
from store.database import Database
from store.sweeper import sweep

ROUNDS = 30
LEASE_SECONDS = 15.0
ENDED, QUEUED, RUNNING, EXPIRED = 100_000, 10_000, 200, 20

_FILL = text("""
    INSERT INTO jobs (id, team_id, created_by, name, status, spec, model, demand, attempt, max_attempts, steps,
        lease_until, worker_id)
    SELECT 'job_' || :status || n, :team, :key, 'bench', :status, '{}', 'builtin/tiny-arith', '1//', 1, 100, 10,
        CASE WHEN :status = 'running' THEN now() + interval '1 hour' END,
        CASE WHEN :status = 'running' THEN :worker END
    FROM generate_series(1, :count) AS n
""")


def measure() -> list[dict[str, float]]:
    """Seconds of each sweep: nothing to do, and with `EXPIRED` leases to take away."""
    with tempfile.TemporaryDirectory(prefix="asym-bench-") as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "store.embedded", "--home", home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        with process:
            if process.stdout is None or process.stdin is None:
                raise RuntimeError("the servers were started without pipes")
            url = json.loads(process.stdout.readline())["database_url"]
            schema.upgrade(url)
            database = Database(url)
            rounds = _sweeps(database)
            database.dispose()
            process.stdin.close()
    return rounds


def _sweeps(database: Database) -> list[dict[str, float]]:
    with database.transaction() as session:
        team = keys.create_team(session, "bench").id
        key = keys.create(session, team, "bench", Role.MEMBER)[0].id
        worker = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=1, version="0").id
        for status, count in (("succeeded", ENDED), ("queued", QUEUED), ("running", RUNNING)):
            session.execute(_FILL, {"status": status, "team": team, "key": key, "worker": worker, "count": count})
    with database.transaction() as session:
        session.execute(text("ANALYZE jobs"))
    rounds = []
    for _ in range(ROUNDS):
        idle = _timed(database, 0)
        with database.transaction() as session:
            session.execute(
                text(
                    "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id IN "
                    "(SELECT id FROM jobs WHERE status = 'running' LIMIT :count)"
                ),
                {"count": EXPIRED},
            )
        busy = _timed(database, EXPIRED)
        with database.transaction() as session:
            session.execute(
                text(
                    "UPDATE jobs SET status = 'running', crashes = 0, lease_until = now() + interval '1 hour' "
                    "WHERE id IN (SELECT id FROM jobs WHERE status = 'queued' LIMIT :count)"
                ),
                {"count": EXPIRED},
            )
        rounds.append({"a sweep that finds nothing": idle, f"a sweep that takes {EXPIRED} jobs away": busy})
    return rounds


def _timed(database: Database, expected: int) -> float:
    began = time.perf_counter()
    with database.transaction() as session:
        # A lease of a microsecond: the new server counts as old enough. Workers it takes for silent are of no interest.
        expired = sweep(session, 1e-6).expired
    seconds = time.perf_counter() - began
    if len(expired) != expected:
        raise RuntimeError(f"the sweep took {len(expired)} jobs away, not {expected}")
    return seconds
