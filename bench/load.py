"""./dev bench load: many small jobs through several workers of one platform: is anything lost, and how does it fare?

The real thing in a new folder: `asym up`, and more `asym worker` beside its own. Every job trains builtin/tiny-arith
for a few steps. Meanwhile the API is asked as dashboards ask. In the end every job is gone through: its status,
attempts, steps, events, checkpoints and log. Exit status 1 when anything is missing, doubled or out of order.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil

from bench.platform import Platform, opened, wait

EVERY = 2
KEY = "reward/mean"
ASKED_EVERY = 0.25
LOOKED_EVERY = 1.0
ENDED = ("succeeded", "failed", "cancelled")


def spec(data: str, steps: int, number: int) -> dict[str, Any]:
    return {
        "name": f"load {number}",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": data},
        "reward": {"kind": "exact"},
        "rollout": {"group_size": 4, "max_new_tokens": 3},
        "optim": {"prompts_per_step": 4},
        "train": {"steps": steps},
        "checkpoint": {"every": EVERY, "keep_last": 2},
        "seed": number,
    }


def problems(job: Mapping[str, Any], answers: Mapping[str, Any], steps: int) -> list[str]:
    """What is wrong with a job that should have succeeded undisturbed; empty: nothing. `answers`: of its routes."""
    whole = list(range(1, steps + 1))
    found = []
    if (job["status"], job["attempt"]) != ("succeeded", 1):
        found.append(f"{job['status']} in attempt {job['attempt']}: {job['failure']}")
    metrics = answers["metrics"]["keys"].get(KEY, {"step": []})["step"]
    if metrics != whole:
        found.append(f"metrics of steps {metrics}")
    events = [event["data"]["step"] for event in answers["events"] if event["type"] == "step"]
    if events != whole:
        found.append(f"events of steps {events}")
    states = [event["data"]["status"] for event in answers["events"] if event["type"] == "state"]
    if states != ["queued", "running", "succeeded"]:
        found.append(f"states {states}")
    expected = sorted({*range(EVERY, steps + 1, EVERY), steps})[-2:]
    checkpoints = sorted(each["step"] for each in answers["checkpoints"]["data"])
    if checkpoints != expected:
        found.append(f"checkpoints of steps {checkpoints}, not {expected}")
    if not answers["logs"]["data"]:
        found.append("no line of its log")
    return found


class Asking(threading.Thread):
    """Asks the API one thing after another, by the clock, as open pages do; keeps how long each answer took."""

    def __init__(self, platform: Platform, jobs: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self._jobs = jobs
        self.over = threading.Event()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.failed: Counter[str] = Counter()

    def run(self) -> None:
        due = time.perf_counter()
        number = 0
        while not self.over.is_set():
            job = self._jobs[number % len(self._jobs)]
            for name, path in (
                ("GET /jobs", "/jobs?limit=50"),
                ("GET /queue", "/queue"),
                ("GET /jobs/ID/metrics", f"/jobs/{job}/metrics?keys=reward/*"),
            ):
                began = time.perf_counter()
                try:
                    self._platform.get(path)
                    self.seconds[name].append(time.perf_counter() - began)
                except (RuntimeError, httpx.HTTPError):
                    self.failed[name] += 1
            number += 1
            due = max(due + ASKED_EVERY, time.perf_counter())
            self.over.wait(due - time.perf_counter())


class Memory(threading.Thread):
    """The most that each kind of process held (resident, unshared parts only), and how many there were at once."""

    def __init__(self, roots: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self._roots = roots
        self.over = threading.Event()
        self.most: dict[str, tuple[int, int]] = {}
        """Kind -> (bytes of the largest, most of them at once)."""

    def run(self) -> None:
        while not self.over.wait(LOOKED_EVERY):
            seen: dict[str, list[int]] = defaultdict(list)
            for root in self._roots:
                for process in _family(root):
                    try:
                        seen[_kind(process)].append(process.memory_full_info().uss)
                    except psutil.Error:  # it has just ended
                        continue
            for kind, sizes in seen.items():
                largest, many = self.most.get(kind, (0, 0))
                self.most[kind] = (max(largest, *sizes), max(many, len(sizes)))


def _family(root: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kind(process: psutil.Process) -> str:
    """`python -m WHAT` by WHAT, anything else by its name."""
    words = process.cmdline()
    if "-m" in words[:-1] and "python" in process.name():
        return words[words.index("-m") + 1]
    return process.name()


@contextmanager
def more_workers(platform: Platform, count: int, folder: Path) -> Iterator[list[int]]:
    """`asym worker` processes beside the platform's own, in the same environment: their pids."""
    environment = platform.part("worker").environ()
    started = []
    for number in range(count):
        with (folder / f"worker-{number + 2}.log").open("wb") as log:
            command = [sys.executable, "-m", "worker", "--name", f"more-{number + 2}"]
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def run(jobs: int, workers: int, steps: int, models_cache: Path) -> dict[str, Any]:
    """All figures of one load; `lost`: job -> what is wrong with it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asym-load-")))
        platform = stack.enter_context(opened(models_cache, OMP_NUM_THREADS="1"))
        rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 18) for b in range(20, 28)]
        data = platform.upload("additions.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
        # The first job makes the model, which is no part of the load.
        _until_ended(platform, [platform.post("/jobs", spec(data, 1, 0))["id"]], 600)
        pids = stack.enter_context(more_workers(platform, workers - 1, folder))
        wait(lambda: len(platform.get("/workers")["data"]) == workers, 180, f"{workers} workers")
        ids = [platform.post("/jobs", spec(data, steps, number + 1))["id"] for number in range(jobs)]
        asking = Asking(platform, ids)
        memory = Memory([platform.pid, *pids])
        began = time.monotonic()
        asking.start()
        memory.start()
        try:
            _until_ended(platform, ids, 120 + 60 * jobs)
        finally:
            for thread in (asking, memory):
                thread.over.set()
                thread.join()
        seconds = time.monotonic() - began
        found, waits = {}, []
        for id in ids:
            job = platform.get(f"/jobs/{id}")
            if wrong := problems(job, _answers(platform, id), steps):
                found[id] = wrong
            if job["started_at"] is not None:
                begun, made = (datetime.fromisoformat(job[name]) for name in ("started_at", "created_at"))
                waits.append((begun - made).total_seconds())
        return {
            "jobs": jobs,
            "workers": workers,
            "steps": steps,
            "seconds": seconds,
            "jobs_per_minute": 60 * jobs / seconds,
            "queue_wait": {"median": median(waits), "longest": max(waits)} if waits else None,
            "api": {name: _spread(took) for name, took in asking.seconds.items()},
            "api_failed": dict(asking.failed),
            "memory": dict(sorted(memory.most.items())),
            "lost": found,
        }


def _until_ended(platform: Platform, ids: Sequence[str], seconds: float) -> None:
    left = set(ids)

    def none_left() -> bool:
        left.difference_update(id for id in sorted(left)[:20] if platform.get(f"/jobs/{id}")["status"] in ENDED)
        return not left

    wait(none_left, seconds, f"an end of all {len(ids)} jobs", poll=0.5)


def _answers(platform: Platform, id: str) -> dict[str, Any]:
    return {
        "metrics": platform.get(f"/jobs/{id}/metrics", keys=KEY),
        "events": [event for kind in ("state", "step") for event in platform.events(id, kind)],
        "checkpoints": platform.get(f"/jobs/{id}/checkpoints"),
        "logs": platform.get(f"/jobs/{id}/logs", limit=1),
    }


def _spread(took: Sequence[float]) -> dict[str, float]:
    ordered = sorted(took)
    at = {"p50": 0.5, "p99": 0.99}
    return {"n": len(ordered), **{name: ordered[int(share * (len(ordered) - 1))] for name, share in at.items()}}


def tell(found: Mapping[str, Any]) -> None:
    print(
        f"{found['jobs']} jobs of {found['steps']} steps, {found['workers']} workers: {found['seconds']:.0f} s, "
        f"{found['jobs_per_minute']:.1f} jobs a minute"
    )
    if found["queue_wait"] is not None:
        print(
            f"waited in the queue: median {found['queue_wait']['median']:.0f} s, {found['queue_wait']['longest']:.0f} s"
        )
    for name, took in found["api"].items():
        failed = f", {found['api_failed'][name]} failed" if name in found["api_failed"] else ""
        print(f"{name:22} {took['n']:5} times  p50 {1e3 * took['p50']:.0f} ms  p99 {1e3 * took['p99']:.0f} ms{failed}")
    for kind, (size, many) in found["memory"].items():
        print(f"{kind:22} {many:3} at once  the largest {size / 2**20:.0f} MiB")
    for id, wrong in found["lost"].items():
        print(f"LOST {id}: {'; '.join(wrong)}")
    print("nothing was lost" if not found["lost"] else f"{len(found['lost'])} jobs are not as they should be")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev bench load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--models-cache", type=Path, default=Path(".bench/models-cache"))
    parser.add_argument("--json", type=Path, help="where the figures go, besides")
    arguments = parser.parse_args(argv)
    found = run(arguments.jobs, arguments.workers, arguments.steps, arguments.models_cache)
    tell(found)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(found["lost"]))
