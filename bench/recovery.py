"""Measure what a user waits for, and what the platform costs:  python -m bench recovery [--rounds N] [--only PART]

    submit      from POST /jobs to the first step, and what of it is the model's loading
    kill        from kill -9 of the worker, and of the trainer, to the next step: of it the lease, the loading
    overhead    what a training step costs beside the training: the trainer's wait, the platform's processor time
    sweeper     one sweep over many jobs

All on builtin/tiny-arith and this machine, in a platform of its own. It must be quiet: the load is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import sweeper
from bench.platform import Platform, opened, wait

PARTS = ("submit", "kill", "overhead", "sweeper")
EVERY = 5
"""Steps from checkpoint to checkpoint."""
IDLE_SECONDS = 15.0
OVERHEAD_STEPS = 60


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts alone")
    parser.add_argument("--lease-seconds", type=float, default=15.0, help="the platform's default: 15")
    parser.add_argument(
        "--models-cache", type=Path, default=Path(".cache/models"), help="builtin/tiny-arith takes a minute"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    parts = options.only or PARTS
    print(f"load before: {', '.join(f'{load:.2f}' for load in os.getloadavg())} on {os.cpu_count()} cores")
    figures: dict[str, Any] = {}
    if set(parts) - {"sweeper"}:
        with opened(options.models_cache, ASYM_LEASE_SECONDS=str(options.lease_seconds)) as platform:
            dataset = _upload(platform)
            _run(platform, dataset, steps=1)  # the model is made, the files are in memory
            if "submit" in parts:
                figures["submit"] = [submit(platform, dataset) for _ in range(options.rounds)]
            if "kill" in parts:
                for who in ("worker", "trainer"):
                    figures[f"kill {who}"] = [kill(platform, dataset, who) for _ in range(options.rounds)]
            if "overhead" in parts:
                figures["overhead"] = [overhead(platform, dataset, options.models_cache)]
    if "sweeper" in parts:
        figures["sweeper"] = sweeper.measure()
    for name, rounds in figures.items():
        print(f"\n{name}, {len(rounds)} rounds")
        for key in rounds[0]:
            values = [each[key] for each in rounds]
            print(f"    {key:<42} median {statistics.median(values):9.4f}   worst {max(values):9.4f}")
    print(f"\nload after: {', '.join(f'{load:.2f}' for load in os.getloadavg())}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


def submit(platform: Platform, dataset: str) -> dict[str, float]:
    """Seconds from the request to the first step's event, by the trainer's clock, and to when the API shows it."""
    began = time.time()
    job = platform.post("/jobs", _spec(dataset, steps=3))["id"]
    step = wait(lambda: platform.events(job, "step"), 120, "a first step")[0]
    seen = time.time()
    loaded = _loaded(platform, job, 1)
    step_seconds = float(step["data"]["metrics"]["perf/step_seconds"])
    claimed = _claimed(platform, job, 1)
    _wait_for_end(platform, job)
    return {
        "submit to first step": step["data"]["time"] - began,
        "submit to claim": claimed - began,
        "  of it the trainer's start and model load": loaded - claimed,
        "  of it the step itself": step_seconds,
        "submit to first step, less both": step["data"]["time"] - began - (loaded - claimed) - step_seconds,
        "submit to first step as the API shows it": seen - began,
    }


def kill(platform: Platform, dataset: str, who: str) -> dict[str, float]:
    """Seconds from kill -9 to the next step that is done: the first one that the next attempt reports."""
    job = platform.post("/jobs", _spec(dataset, steps=100_000))["id"]
    wait(lambda: platform.get(f"/jobs/{job}")["progress"]["step"] >= EVERY + 2, 120, "some steps")
    victim = platform.part("worker") if who == "worker" else platform.trainer()
    victim.kill()
    killed = time.time()
    step = wait(lambda: platform.events(job, "step", attempt=2), 300, "a step of the next attempt")[0]
    claimed, loaded = _claimed(platform, job, 2), _loaded(platform, job, 2)
    platform.post(f"/jobs/{job}/cancel")
    _wait_for_end(platform, job)
    return {
        "kill to next step": step["data"]["time"] - killed,
        "  kill to next claim": claimed - killed,
        "  claim to model loaded": loaded - claimed,
        "  model loaded to step": step["data"]["time"] - loaded,
        "kill to next step, less the model load": step["data"]["time"] - killed - (loaded - claimed),
    }


def overhead(platform: Platform, dataset: str, models_cache: Path) -> dict[str, float]:
    """Seconds a step: the trainer's own with and without a platform, and the platform's processor time."""
    before, began = platform.cpu_seconds(), time.monotonic()
    wait(lambda: time.monotonic() - began > IDLE_SECONDS, IDLE_SECONDS + 5, "some time")
    idle = (platform.cpu_seconds() - before) / (time.monotonic() - began)
    spec = _spec(dataset, steps=OVERHEAD_STEPS, every=OVERHEAD_STEPS)
    before, began = platform.cpu_seconds(), time.monotonic()
    job = platform.post("/jobs", spec)["id"]
    _wait_for_end(platform, job, poll=2.0)  # asking costs the platform too
    used = platform.cpu_seconds() - before - idle * (time.monotonic() - began)
    served = [event["data"] for event in platform.events(job, "step")]
    alone = _alone(spec, models_cache)
    per_step = used / OVERHEAD_STEPS
    return {
        "a step under the platform": _median_step(served),
        "a step of the trainer alone": _median_step(alone),
        "between two steps, under the platform": _median_gap(served),
        "between two steps, alone": _median_gap(alone),
        "platform's processor seconds a step": per_step,
        "platform's processor seconds a second, idle": idle,
        "share of a 1 s step: wait in the trainer": _median_gap(served) - _median_gap(alone),
        "share of a 1 s step: processor time": per_step,
    }


def _median_step(steps: list[dict[str, Any]]) -> float:
    return statistics.median(float(step["metrics"]["perf/step_seconds"]) for step in steps[1:])


def _median_gap(steps: list[dict[str, Any]]) -> float:
    """From the end of one step to the beginning of the next: what is said in between."""
    gaps = [
        float(after["time"]) - float(before["time"]) - float(after["metrics"]["perf/step_seconds"])
        for before, after in pairwise(steps)
    ]
    return statistics.median(gaps)


def _alone(spec: dict[str, Any], models_cache: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="asym-bench-") as name:
        folder = Path(name)
        (folder / "rows.jsonl").write_bytes(_rows())
        (folder / "spec.yaml").write_text(json.dumps({**spec, "data": {**spec["data"], "train": "rows"}}))
        command = [sys.executable, "-m", "trainer", "spec.yaml", "--run-dir", "run", "--data", "rows=rows.jsonl"]
        done = subprocess.run(
            [*command, "--cache-dir", str(models_cache.resolve())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [event for event in events if event["type"] == "step"]


def _claimed(platform: Platform, job: str, attempt: int) -> float:
    """When an attempt was claimed, by the database's clock, which is this machine's."""
    states = platform.events(job, "state", attempt)
    running = next(event for event in states if event["data"]["status"] == "running")
    return datetime.fromisoformat(running["at"]).timestamp()


def _loaded(platform: Platform, job: str, attempt: int) -> float:
    """When its trainer said that the model is loaded, by the trainer's clock."""
    said = platform.events(job, "message", attempt)
    return float(next(event["data"]["time"] for event in said if "resumed_from" in event["data"]))


def _wait_for_end(platform: Platform, job: str, poll: float = 0.05) -> None:
    ended = ("succeeded", "failed", "cancelled")
    wait(lambda: platform.get(f"/jobs/{job}")["status"] in ended, 600, "the end of a job", poll)


def _run(platform: Platform, dataset: str, steps: int) -> None:
    _wait_for_end(platform, platform.post("/jobs", _spec(dataset, steps))["id"])


def _upload(platform: Platform) -> str:
    return platform.upload("rows.jsonl", _rows())


def _rows() -> bytes:
    rows = ({"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 30) for b in range(10, 30))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _spec(dataset: str, steps: int, every: int = EVERY) -> dict[str, Any]:
    return {
        "name": "recovery",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": dataset, "max_prompt_tokens": 16},
        "reward": {"kind": "numeric"},
        "rollout": {"group_size": 8, "max_new_tokens": 4},
        "optim": {"lr": 1e-3, "prompts_per_step": 8},
        "train": {"steps": steps},
        "checkpoint": {"every": every},
        "seed": 1,
    }
