"""Runs specs with `python -m trainer`, some at a time, and gathers what they measured."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Spec = dict[str, Any]
Series = dict[int, dict[str, Any]]
"""Step -> metrics of that step, evaluations merged in."""


@dataclass(frozen=True)
class Run:
    method: str
    seed: int
    series: Series

    def values(self, key: str) -> dict[int, float]:
        """Step -> value, where it was measured and defined."""
        return {step: row[key] for step, row in sorted(self.series.items()) if row.get(key) is not None}


def read_spec(path: Path, overlay: Spec, seed: int, data: Path | None = None) -> Spec:
    """The spec of a file with the overlay's sections laid over it: mappings are merged, anything else replaced.

    Data paths become absolute: they are relative to `data`, or to the file's own folder.
    """
    spec: Spec = yaml.safe_load(path.read_text())
    for section, value in overlay.items():
        both_are_mappings = isinstance(value, dict) and isinstance(spec.get(section), dict)
        spec[section] = {**spec[section], **value} if both_are_mappings else value
    for section in (spec["data"], *spec["eval"]):
        key = "train" if section is spec["data"] else "data"
        section[key] = str(((data or path.parent) / section[key]).resolve())
    return {**spec, "seed": seed}


def run_all(specs: Iterable[tuple[str, Spec]], out: Path, at_once: int) -> list[Run]:
    """One run for each (method, spec). RuntimeError with the trainer's last words when one fails."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda each: _run(*each, out, at_once), specs))


def _run(method: str, spec: Spec, out: Path, at_once: int) -> Run:
    folder = out / f"{method}-seed{spec['seed']}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    events = folder / "events.jsonl"
    command = [sys.executable, "-m", "trainer", str(folder / "spec.yaml"), "--run-dir", str(folder)]
    threads = max(1, (os.cpu_count() or 1) // at_once)
    with events.open("w") as file:
        done = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{folder.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    run = Run(method, spec["seed"], read_events(events))
    print(f"{folder.name}: {max(run.series)} steps", file=sys.stderr)
    return run


def read_events(path: Path) -> Series:
    """The metrics of a run's `step` and `eval` events."""
    series: Series = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if event["type"] in ("step", "eval"):
            series.setdefault(event["step"], {}).update(event["metrics"])
    return series
