"""MLflow's tracking server doing what is compared: log-batch, and reading a metric's history of several runs.

Its backend is a database of its own on the same embedded Postgres: with SQLite it logs half as many values a second.
Its rows for the reading part are put straight into that: through its API they would take half an hour.
"""

import json
import random
import time
from collections.abc import Sequence
from urllib.parse import urlencode

import psycopg

from bench.api.contents import KEYS
from bench.api.servers import Http
from bench.api.timing import Times, times_of

BATCH_METRICS = 1000
"""The most that log-batch takes in one request."""
KEY = "reward/mean"
DATABASE = "mlflow"


def run(http: Http) -> str:
    """The id of a new run."""
    body = {"experiment_id": "0", "start_time": int(1e3 * time.time())}
    _, _, content = http.ask("POST", "/api/2.0/mlflow/runs/create", body)
    return str(json.loads(content)["run"]["info"]["run_id"])


def log_batches(http: Http, run_id: str, seconds: float) -> tuple[int, Times]:
    """(values, times of a request): whole steps, as many as a batch takes, one request after the other."""
    draw, taken, step = random.Random(0), list[float](), 0  # noqa: S311
    steps = BATCH_METRICS // len(KEYS)
    while sum(taken) < seconds:
        metrics = [
            {"key": key, "value": draw.random(), "timestamp": int(1e3 * time.time()), "step": step + offset}
            for offset in range(1, steps + 1)
            for key in KEYS
        ]
        step += steps
        began = time.perf_counter()
        http.ask("POST", "/api/2.0/mlflow/runs/log-batch", {"run_id": run_id, "metrics": metrics})
        taken.append(time.perf_counter() - began)
    return len(taken) * steps * len(KEYS), Times(taken)


def make_database(database_url: str) -> str:
    """An empty database beside ours, on the same server; its address. MLflow makes its schema when it starts."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    return database_url.replace("/asym?", f"/{DATABASE}?")


_FILL = """
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)
SELECT %(key)s, random(), step, %(run)s, step, false FROM generate_series(1, %(steps)s) AS step
"""
_LATEST = """
INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan)
VALUES (%(key)s, 0.5, %(steps)s, %(run)s, %(steps)s, false)
"""


def fill(address: str, run_ids: Sequence[str], steps: int) -> None:
    """Give each run so many steps of one metric."""
    with psycopg.connect(address, autocommit=True) as connection:
        for run_id in run_ids:
            for statement in (_FILL, _LATEST):
                connection.execute(statement, {"key": KEY, "run": run_id, "steps": steps})
        connection.execute("ANALYZE metrics")


def read_sampled(http: Http, run_ids: Sequence[str], points: int, count: int) -> Times:
    """Of all runs so many points, in the one request that its own charts make. It samples: extremes are lost."""
    query = urlencode([*(("run_ids", each) for each in run_ids), ("metric_key", KEY), ("max_results", str(points))])
    path = f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{query}"
    found = len(json.loads(http.get(path))["metrics"])
    if found < len(run_ids) * points // 2:
        raise RuntimeError(f"MLflow gave {found} points")
    return times_of(lambda _: http.get(path), count)


def read_history(http: Http, run_id: str, count: int) -> Times:
    """One run's whole history, page by page, as its Python client reads it."""

    def whole(_: int) -> None:
        token = None
        while True:
            query = {"run_id": run_id, "metric_key": KEY, "max_results": "25000"}
            page = json.loads(
                http.get(
                    f"/api/2.0/mlflow/metrics/get-history?{urlencode(query | ({'page_token': token} if token else {}))}"
                )
            )
            if not (token := page.get("next_page_token")):
                return

    return times_of(whole, count)
