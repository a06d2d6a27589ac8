"""Whole runs of the real trainer at the price of a fork each (interrupted_trainer.py)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer.spec.events import Event, parse_event

Order = Callable[[dict[str, Any]], list[int]]


@dataclass
class Run:
    """A run's folder and its attempts so far."""

    folder: Path
    _order: Order
    cache: Path
    codes: list[int] = field(default_factory=list)
    """One of each rank of each attempt."""
    events: list[list[Event]] = field(default_factory=list)
    """Of each attempt."""
    log: str = ""
    """The last attempt's stderr."""

    def start(
        self,
        spec: dict[str, Any],
        *arguments: str,
        interrupt: dict[str, Any] | None = None,
        memory: dict[str, Any] | None = None,
        ranks: int = 1,
    ) -> list[Event]:
        """One more attempt, to its end: its events. `interrupt`, `memory` and `ranks` as in interrupted_trainer.py."""
        self.folder.mkdir(exist_ok=True)
        file, events, log = self.folder / "spec.yaml", self.folder / "events", self.folder / "log"
        file.write_text(json.dumps(spec))
        order = {
            "arguments": [*map(str, (file, "--run-dir", self.folder, "--cache-dir", self.cache)), *arguments],
            "stdout": str(events),
            "stderr": str(log),
            "interrupt": interrupt,
            "memory": memory,
            "ranks": ranks,
        }
        self.codes += self._order(order)
        self.events.append([parse_event(line) for line in events.read_text().splitlines()])
        self.log = log.read_text()
        return self.events[-1]

    def metrics(self, attempt: int = -1) -> dict[int, dict[str, Any]]:
        """Step -> its metrics, evaluations merged in, without those that a clock decides."""
        rows: dict[int, dict[str, Any]] = {}
        for event in self.events[attempt]:
            if event.type in ("step", "eval"):
                values = {key: value for key, value in event.metrics.items() if not key.startswith("perf/")}
                rows.setdefault(event.step, {}).update(values)
        return rows

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / str(step)


@pytest.fixture(scope="session")
def new_run(model_cache: Path) -> Iterator[Callable[[Path], Run]]:
    """new_run(folder): a run there that has not begun."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("interrupted_trainer.py")), str(model_cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, sys.path)),
        },
    )

    def order(order: dict[str, Any]) -> list[int]:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return [int(code) for code in process.stdout.readline().split()]

    with process:
        yield lambda folder: Run(folder, order, model_cache)
        process.stdin.close()


@pytest.fixture
def run(new_run: Callable[[Path], Run], tmp_path: Path) -> Run:
    return new_run(tmp_path / "run")
