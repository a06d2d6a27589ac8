"""./dev bench dashboard: comparing many long runs that go on, as a browser, the server and the wire see it.

Everything runs in a temporary folder: an embedded Postgres and Valkey, `python -m api`, `python -m dashboard`, and
Chromium (ASYM_CHROMIUM, else /usr/bin/chromium). Exit status 1 when an aim is not reached.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.api.contents import KEYS, team
from bench.api.servers import allow_open_files, api, embedded, free_port
from bench.dashboard import contents
from bench.dashboard.browser import chromium, visit
from bench.step.machine_state import describe, wait_until_quiet
from store import leases, schema
from store.database import Database
from store.ids import new_id

AIM_FIRST, AIM_TICK, AIM_WIRE, AIM_TASKS = 1.5, 0.1, 300_000.0, 0.5
WARM_UP = 6.0
"""Seconds after the first chart in which the rest of the page comes."""


def main(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if arguments.wait_quiet and not wait_until_quiet(arguments.wait_quiet):
        print("bench: the machine did not become quiet; measuring all the same", file=sys.stderr)
    allow_open_files(1024)
    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores; {machine['system']}", flush=True)
    with _platform(arguments) as (address, servers, asked):
        figures = _measure(arguments, address, servers)
        figures["runs"] = asked
    rows: list[tuple[str, str, str, bool]] = [
        (
            "first chart, a browser that was never here",
            f"{figures['first']:.2f} s",
            "1.5 s",
            figures["first"] < AIM_FIRST,
        ),
        (
            "a refresh, from asking to the last message",
            f"{1e3 * figures['tick']:.0f} ms",
            "100 ms",
            figures["tick"] < AIM_TICK,
        ),
        ("on the wire", f"{figures['wire'] / 1e6:.3f} MB/s", "0.3 MB/s", figures["wire"] < AIM_WIRE),
        ("long tasks of the browser in 10 s", f"{figures['tasks']:.2f} s", "0.5 s", figures["tasks"] < AIM_TASKS),
    ]
    print(f"\n{'':48}{'measured':>14}{'aim':>12}  reached")
    for name, found, aim, reached in rows:
        print(f"{name:48}{found:>14}{aim:>12}  {'yes' if reached else 'NO'}")
    print(
        f"\nfirst charts: {', '.join(f'{each:.2f}' for each in figures['firsts'])} s; "
        f"refreshes: {figures['ticks']}, longest {1e3 * figures['longest']:.0f} ms; "
        f"CPU a refresh: dashboard {1e3 * figures['dashboard_cpu']:.0f} ms, API {1e3 * figures['api_cpu']:.0f} ms"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")
    return int(not all(reached for *_, reached in rows))


def _measure(arguments: argparse.Namespace, address: str, servers: dict[str, psutil.Process]) -> dict[str, Any]:
    with chromium() as browser:
        firsts = []
        for _ in range(arguments.visits):
            with visit(browser) as seen:
                firsts.append(seen.open(address))
        with visit(browser) as seen:
            seen.open(address)
            seen.page.wait_for_timeout(1000 * WARM_UP)
            before = {name: _cpu(process) for name, process in servers.items()}
            found = seen.watch(arguments.seconds)
            used = {name: _cpu(process) - before[name] for name, process in servers.items()}
            if arguments.picture is not None:
                seen.page.screenshot(path=arguments.picture)
    ticks = max(1, len(found.exchanges))
    taken = [each.seconds for each in found.exchanges] or [float("inf")]
    return {
        "first": median(firsts),
        "firsts": firsts,
        "tick": median(taken),
        "longest": max(taken),
        "ticks": len(found.exchanges),
        "wire": found.bytes_per_second,
        "tasks": 10 * found.long_tasks / found.seconds,
        "dashboard_cpu": used["dashboard"] / ticks,
        "api_cpu": used["api"] / ticks,
    }


def _cpu(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


@contextmanager
def _platform(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, psutil.Process], int]]:
    """(the address of the comparison, the processes that serve it, how many runs)."""
    with tempfile.TemporaryDirectory(prefix="asym-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # Postgres runs as another user when we are root
        home = folder / "home"
        home.mkdir()
        with embedded(home) as (database_url, broker_url):
            schema.upgrade(database_url)
            database = Database(database_url, pool_size=2)
            identity, keys = team(database, 1)
            began = time.perf_counter()
            made = contents.sweep(
                database, identity, arguments.runs, arguments.steps, status="running", dataset=new_id("ds")
            )
            contents.fill(database, made, arguments.steps, arguments.distinct)
            print(
                f"filled {arguments.runs} runs of {arguments.steps} steps, {len(KEYS)} metrics each, "
                f"{time.perf_counter() - began:.0f} s",
                flush=True,
            )
            with (
                api(home, database_url, broker_url, {}) as (port, pid),
                _dashboard(home, port, keys[0]) as (dashboard_port, dashboard_pid),
                _training(database, made, arguments),
            ):
                keys_shown = ",".join(KEYS[: arguments.charts]) if arguments.charts else ""
                jobs = ",".join(each.job_id for each in made)
                address = f"http://127.0.0.1:{dashboard_port}/compare?jobs={jobs}"
                servers = {"api": psutil.Process(pid), "dashboard": psutil.Process(dashboard_pid)}
                yield address + (f"&keys={keys_shown}" if keys_shown else ""), servers, len(made)
            database.dispose()


@contextmanager
def _dashboard(home: Path, api_port: int, key: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    ours = {"ASYM_HOME": str(home), "ASYM_API_URL": f"http://127.0.0.1:{api_port}", "ASYM_API_KEY": key}
    with (home / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard", "--port", str(port)],
            env={**kept, **ours},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while not any(each.laddr.port == port for each in psutil.Process(process.pid).net_connections("inet")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((home / "dashboard.log").read_text())
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _training(database: Database, made: Sequence[contents.Made], arguments: argparse.Namespace) -> Iterator[None]:
    """All runs go on, a step a second each."""
    done = threading.Event()
    draw = random.Random(0)  # noqa: S311

    def go_on() -> None:
        for number in range(1, 10**6):
            for each in made:
                with database.transaction() as session:
                    event = contents.said(arguments.steps + number, draw)
                    leases.record(session, each.job_id, 1, [event], [], batch=number)
            if done.wait(1.0):
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench dashboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--distinct", type=int, default=2, help="runs with curves of their own; the others are copies")
    parser.add_argument("--charts", type=int, default=0, help="how many metrics are shown; 0: those shown by default")
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of watching the page refresh itself")
    parser.add_argument("--picture", type=Path, help="save what the page looks like at the end")
    parser.add_argument("--wait-quiet", type=float, default=0, metavar="MINUTES", help="wait for a load below 0.5")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
