"""./dev bench api: the API's and its store's figures, and MLflow's tracking server's, on one machine in one run.

Everything runs in a temporary folder: an embedded Postgres and Valkey as `asym up` starts them, `python -m api`, and
`mlflow server` (an environment of its own, made the first time). Exit status 1 when an aim is not reached.
"""

import argparse
import asyncio
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.api import contents, mlflow_side
from bench.api.ingest import Ingest, ingest
from bench.api.mlflow_venv import mlflow_python
from bench.api.servers import Http, allow_open_files, api, embedded, mlflow
from bench.api.timing import HEADING, Line, times_of
from bench.api.watchers import Watched, watch
from bench.step.machine_state import describe, wait_until_quiet
from store import leases, schema
from store.database import Database
from trainer.spec.events import Step

AIM_VALUES = 20_000
AIM_COMPARE, AIM_CACHED, AIM_LIST, AIM_POST, AIM_WATCHED = 0.3, 0.05, 0.02, 0.015, 0.25
POINTS = 1000
WATCHED_JOBS = 20
KEY = "reward/mean"
PARTS = ("ingest", "read", "jobs", "watchers", "mlflow")


class Bench:
    """The servers, what they hold, and the table that comes of it."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, database_url: str) -> None:
        self.arguments = arguments
        self.folder = folder
        self.database_url = database_url
        self.database = Database(database_url, pool_size=5)
        watchers = -(-arguments.watchers // arguments.watchers_per_key) if "watchers" in arguments.parts else 1
        self.identity, self.keys = contents.team(self.database, watchers)
        self.lines: list[Line] = []
        self.notes: list[str] = []
        self.missed = False

    def http(self, port: int) -> Http:
        return Http(port, {"Authorization": f"Bearer {self.keys[0]}"})

    def add(self, line: Line) -> Line:
        self.lines.append(line)
        self.missed |= line.aim is not None and line.times.median >= line.aim
        print(line, flush=True)
        return line

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(text, flush=True)

    # The parts.

    def ingest(self) -> Ingest:
        (job_id,) = contents.jobs(self.database, self.identity, 1)
        contents.lease(self.database, [job_id])
        found = ingest(self.database, job_id, self.arguments.seconds)
        self.add(Line(f"record a batch of 200 steps, {len(contents.KEYS)} values each", found.batches))
        self.missed |= found.rate < AIM_VALUES
        sizes = ", ".join(f"{name} {size:.0f}" for name, size in found.bytes_per_value.items())
        self.note(f"ingest: {found.rate:,.0f} values/s (aim {AIM_VALUES:,}); bytes per value on disk: {sizes}")
        return found

    def fill_runs(self) -> list[str]:
        runs, steps = self.arguments.runs, self.arguments.steps
        began = time.perf_counter()
        ids = contents.jobs(self.database, self.identity, runs)
        values = contents.long_runs(self.database, ids, steps)
        print(
            f"filled {runs} runs of {steps} steps, {values:,} values, {time.perf_counter() - began:.0f} s", flush=True
        )
        return ids

    def read(self, http: Http, ids: Sequence[str]) -> Line:
        """Cold: an answer that is in no cache of ours, since nobody has asked for just so many points."""
        asked = f"/compare?jobs={','.join(ids)}&keys={KEY}&max_points="
        _, _, content = http.ask("GET", asked + str(POINTS))
        points = [len(job["keys"][KEY]["step"]) for job in json.loads(content)["jobs"].values()]
        what = f"{len(ids)} runs of {self.arguments.steps} steps, {min(points)} to {max(points)} points each"
        cold = self.add(
            Line(f"/compare {what}", times_of(lambda n: http.get(f"{asked}{POINTS - 1 - n}"), 30), AIM_COMPARE)
        )
        self.add(Line("  the same from the cache", times_of(lambda _: http.get(asked + str(POINTS)), 100), AIM_CACHED))
        tag = http.ask("GET", asked + str(POINTS))[1]["etag"]
        known = {"If-None-Match": tag}
        self.add(
            Line("  the same with If-None-Match (304)", times_of(lambda _: http.get(asked + "1000", **known), 100))
        )
        one = f"/jobs/{ids[0]}/metrics?max_points="
        self.add(Line("/jobs/{id}/metrics, all keys", times_of(lambda n: http.get(f"{one}{POINTS - n}"), 30)))
        middle = self.arguments.steps // 3
        zoomed = f"/jobs/{ids[0]}/metrics?keys={KEY}&from_step={middle}&to_step={2 * middle}&max_points="
        self.add(Line("  one key, the middle third", times_of(lambda n: http.get(f"{zoomed}{POINTS - n}"), 30)))
        return cold

    def jobs(self, http: Http) -> None:
        contents.jobs(self.database, self.identity, self.arguments.jobs)
        what = f"with {self.arguments.jobs} jobs"
        self.add(Line(f"GET /jobs {what}", times_of(lambda _: http.get("/jobs"), 200), AIM_LIST))
        self.add(Line("  status=running", times_of(lambda _: http.get("/jobs?status=running"), 50)))
        dataset = _upload(http)
        body = contents.spec(dataset).model_dump(mode="json", exclude_unset=True)
        self.add(Line(f"POST /jobs {what}", times_of(lambda _: http.ask("POST", "/jobs", body), 200), AIM_POST))

    def watchers(self, port: int, pid: int, runs: Sequence[str]) -> Watched:
        watched = contents.jobs(self.database, self.identity, WATCHED_JOBS)
        contents.lease(self.database, watched)
        draw, number = random.Random(0), itertools.count(1)  # noqa: S311

        def say() -> None:
            step = next(number)
            for job_id in watched:
                with self.database.transaction() as session:
                    event = Step(time=0.0, step=step, metrics=contents.metrics_said(step, draw))
                    leases.record(session, job_id, 1, [event], [], batch=step)

        count = self.arguments.watchers
        streams = [
            (f"/jobs/{watched[index % len(watched)]}/metrics", self.keys[index % len(self.keys)])
            for index in range(count)
        ]
        paths = ["/jobs", f"/jobs/{watched[0]}", f"/jobs/{watched[1]}/metrics?keys={KEY}"]
        if runs:
            paths.append(f"/jobs/{runs[0]}/metrics?keys={KEY}&max_points={POINTS}")
        requests = [(path, self.keys[index]) for index, path in enumerate(paths) if index < len(self.keys)]
        found = asyncio.run(
            watch(
                port,
                pid,
                self.database_url,
                streams,
                requests,
                say,
                seconds=2 * self.arguments.seconds,
                rate=self.arguments.rate,
            )
        )
        self.add(Line(f"{self.arguments.rate:g} requests/s while {count} watch", found.times))
        self.missed |= found.times.p99 > AIM_WATCHED
        before, after = (each / 2**20 for each in found.memory)
        self.note(
            f"watchers: p99 {1e3 * found.times.p99:.0f} ms (aim 250), {found.messages:,} messages, "
            f"{found.lost} streams lost"
        )
        self.note(
            f"watchers: open after {found.opening:.0f} s; the API's memory {before:.0f} to {after:.0f} MiB; "
            f"{found.connections} database connections; it used {found.cores:.2f} of a core"
        )
        return found

    def mlflow(self, ours: Ingest | None, cold: Line | None) -> None:
        python = self.arguments.mlflow_python or mlflow_python()
        folder = self.folder / "mlflow"
        folder.mkdir()
        address = mlflow_side.make_database(self.database_url)
        # By its own driver; of workers one, as ours has.
        backend = address.replace("postgresql://", "postgresql+psycopg2://")
        with mlflow(python, folder, backend, workers=1) as port:
            http = Http(port, {})
            values, times = mlflow_side.log_batches(http, mlflow_side.run(http), self.arguments.seconds)
            self.add(Line(f"MLflow log-batch, {values // len(times.seconds)} values", times))
            rate = values / sum(times.seconds)
            ratio = "" if ours is None else f"; ours is {ours.rate / rate:.1f} times that"
            self.note(f"MLflow: {rate:,.0f} values/s{ratio}")
            runs = [mlflow_side.run(http) for _ in range(self.arguments.runs)]
            mlflow_side.fill(address, runs, self.arguments.steps)
            sampled = self.add(
                Line(
                    "MLflow get-history-bulk-interval, the same question",
                    mlflow_side.read_sampled(http, runs, POINTS, 5),
                )
            )
            self.add(Line("MLflow get-history, one run whole", mlflow_side.read_history(http, runs[0], 3)))
            if cold is not None:
                self.note(
                    f"reading: MLflow takes {sampled.times.median / cold.times.median:.1f} times as long as ours cold"
                )


def _upload(http: Http) -> str:
    rows = "".join(json.dumps({"prompt": f"{a}+{a}=", "answer": str(2 * a)}) + "\n" for a in range(10, 50))
    boundary = "bench"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n{rows}\r\n'
        f"--{boundary}--\r\n"
    )
    return str(json.loads(http.upload("/datasets", body.encode(), boundary))["id"])


def main(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    if arguments.wait_quiet and not wait_until_quiet(arguments.wait_quiet):
        print("bench: the machine did not become quiet; measuring all the same", file=sys.stderr)
    allow_open_files(4 * arguments.watchers + 1024)
    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores; {machine['system']}\n\n{HEADING}", flush=True)
    with _opened(arguments) as (bench, port, pid):
        http = bench.http(port)
        ours = bench.ingest() if "ingest" in arguments.parts else None
        runs = bench.fill_runs() if "read" in arguments.parts else []
        cold = bench.read(http, runs) if runs else None
        if "jobs" in arguments.parts:
            bench.jobs(http)
        if "watchers" in arguments.parts:
            bench.watchers(port, pid, runs)
        if "mlflow" in arguments.parts:
            bench.mlflow(ours, cold)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(_everything(bench, machine), indent=1) + "\n")
        return int(bench.missed)


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple[Bench, int, int]]:
    with tempfile.TemporaryDirectory(prefix="asym-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # Postgres runs as another user when we are root
        home = folder / "home"
        home.mkdir()
        with embedded(home) as (database_url, broker_url):
            schema.upgrade(database_url)
            bench = Bench(arguments, folder, database_url)
            with api(home, database_url, broker_url, dict(arguments.api_env)) as (port, pid):
                yield bench, port, pid
            bench.database.dispose()


def _everything(bench: Bench, machine: dict[str, str | int]) -> dict[str, Any]:
    return {
        "machine": machine,
        "lines": [{"name": each.name, "aim": each.aim, "seconds": list(each.times.seconds)} for each in bench.lines],
        "notes": bench.notes,
    }


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench api", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=15.0, help="of ingest; watchers twice as long")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--watchers", type=int, default=2000)
    parser.add_argument("--watchers-per-key", type=int, default=40)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second beside the watchers")
    parser.add_argument("--mlflow-python", type=Path, help="an interpreter that has MLflow, instead of .venv-mlflow")
    parser.add_argument(
        "--api-env",
        action="append",
        default=[],
        type=lambda pair: tuple(pair.split("=", 1)),
        metavar="NAME=VALUE",
        help="a setting of the API that is measured",
    )
    parser.add_argument("--wait-quiet", type=float, default=0, metavar="MINUTES", help="wait for a load below 0.5")
    parser.add_argument("--json", type=Path, help="write every time there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
