"""./dev bench claims: how many jobs a second workers claim from a long queue, and what else the queue's length costs.

Starts an embedded Postgres of its own in a temporary folder, as `asym up` does (commits are flushed to disk), and fills
its queue: several teams, priorities, sizes, labels, a team at its limit, jobs that no worker can run. Claimers are
threads with connections of their own; a claimed job is left running, so that the queue shortens as it would.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from bench.step.machine_state import describe
from store import keys, leases, schema, sweeper, workers
from store.access import Identity, Role
from store.database import Database
from store.demand import Demand
from store.ids import new_id
from store.jobs import list_page
from store.policy import Limits, Policy
from store.queue import queue_info, standings
from store.status import JobStatus
from trainer.spec.job import ResourcesSpec

POLICY = Policy(Limits())
DEMANDS: list[dict[str, object]] = [
    {"gpus": 1}, {"gpus": 1}, {"gpus": 2}, {"gpus": 0}, {"gpus": 1, "gpu_memory": 80}, {"gpus": 1, "labels": ["h100"]},
    {"gpus": 1, "labels": ["nowhere"]},
]  # fmt: skip

_FILL = text("""
INSERT INTO jobs (id, team_id, created_by, name, status, spec, gpus, demand, model, priority, max_attempts, steps)
SELECT id, team, key, 'bench', 'queued', CAST(:spec AS jsonb), gpus, demand, 'builtin/tiny-arith', priority, 3, 100
FROM unnest(
    CAST(:ids AS text[]), CAST(:teams AS text[]), CAST(:keys AS text[]), CAST(:gpus AS int[]), CAST(:demands AS text[]),
    CAST(:priorities AS int[])
) AS job (id, team, key, gpus, demand, priority)
""")


def fill(database: Database, jobs: int, teams: int) -> list[Identity]:
    """A queue of so many jobs; the last team may run no GPU at all."""
    people = []
    with database.transaction() as session:
        for number in range(teams):
            team = keys.create_team(session, f"team {number}")
            key, _ = keys.create(session, team.id, "bench", Role.MEMBER)
            people.append(Identity(key.id, team.id, Role.MEMBER))
        team.max_running_gpus = 0
    demands = [Demand.of(ResourcesSpec.model_validate(given)) for given in DEMANDS]
    with database.transaction() as session:
        session.execute(
            _FILL,
            {
                "ids": [new_id("job") for _ in range(jobs)],
                "teams": [people[number % teams].team_id for number in range(jobs)],
                "keys": [people[number % teams].key_id for number in range(jobs)],
                "gpus": [demands[number % len(demands)].gpus for number in range(jobs)],
                "demands": [str(demands[number % len(demands)]) for number in range(jobs)],
                "priorities": [(number * 7919) % 3 for number in range(jobs)],
                # As long as a real one: the claim must not read those that it does not take.
                "spec": json.dumps({"checkpoint": {}, "padding": "x" * 4000}),
            },
        )
    with database.transaction() as session:
        session.execute(text("ANALYZE jobs"))
    return people


def claims_per_second(database: Database, claimers: int, seconds: float) -> tuple[float, float, float]:
    """(claims a second of all together, median and 99th percentile of one claim in milliseconds)."""
    with database.transaction() as session:
        mine = [
            workers.register(
                session, name=f"w{index}", host="here", pid=1, gpus=8, cpu_slots=8, version="0", labels=["h100"]
            ).id
            for index in range(claimers)
        ]
    together = threading.Barrier(claimers)

    def work(worker_id: str) -> tuple[list[float], float]:
        times: list[float] = []
        together.wait()
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            with database.statements() as session:
                claim = leases.claim(session, worker_id, [86] * 8, 8, 600, POLICY)
            if claim is None:
                raise RuntimeError("the queue is empty: --jobs is too small for --seconds")
            times.append(time.perf_counter() - now)
        return times, time.perf_counter() - began

    with ThreadPoolExecutor(claimers) as pool:
        results = list(pool.map(work, mine))
    every = sorted(each for times, _ in results for each in times)
    rate = sum(len(times) / took for times, took in results)
    return rate, 1e3 * statistics.median(every), 1e3 * every[int(0.99 * (len(every) - 1))]


def milliseconds(call: Callable[[], object], times: int = 5) -> float:
    """Median."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev bench claims", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000, help="queued when each measurement begins (default: 10000)")
    parser.add_argument("--teams", type=int, default=8)
    parser.add_argument("--claimers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    arguments = parser.parse_args(argv)
    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, load {os.getloadavg()[0]:.1f}; {machine['system']}")
    print(f"{arguments.jobs} queued jobs of {arguments.teams} teams and {len(DEMANDS)} demands each\n")
    with tempfile.TemporaryDirectory() as home:
        servers = subprocess.Popen(
            [sys.executable, "-m", "store.embedded", "--home", home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with servers:
            if servers.stdin is None or servers.stdout is None:
                raise AssertionError("asked for as pipes")
            _measure(json.loads(servers.stdout.readline())["database_url"], arguments)
            servers.stdin.close()
    return 0


def _measure(url: str, arguments: argparse.Namespace) -> None:
    schema.upgrade(url)
    print(f"{'claimers':>8} {'claims/s':>10} {'median ms':>10} {'p99 ms':>10}")
    for claimers in arguments.claimers:
        database = Database(url, pool_size=claimers + 2)
        _empty(database)
        people = fill(database, arguments.jobs, arguments.teams)
        rate, median, p99 = claims_per_second(database, claimers, arguments.seconds)
        print(f"{claimers:8} {rate:10.0f} {median:10.2f} {p99:10.2f}", flush=True)
        database.dispose()
    database = Database(url)
    _empty(database)
    people = fill(database, arguments.jobs, arguments.teams)
    with database.transaction() as session:
        for index in range(4):
            workers.register(session, name=f"v{index}", host="h", pid=1, gpus=8, cpu_slots=8, version="0")
        page = list_page(session, people[0], 50, None, [JobStatus.QUEUED])
        alone = milliseconds(lambda: queue_info(session, page[0], POLICY))
        together = milliseconds(lambda: standings(session, page, POLICY))

    def sweep() -> None:
        with database.transaction() as session:
            sweeper.sweep(session, 15.0, POLICY)

    print(f"\nplace, reason and ETA of one queued job {alone:.1f} ms, of a page of 50 {together:.1f} ms")
    print(f"a sweep {milliseconds(sweep):.1f} ms")
    database.dispose()


def _empty(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("TRUNCATE teams, workers CASCADE"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
