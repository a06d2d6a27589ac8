"""A run that is stopped or killed at any point, resumed, equals one that never was: metrics and files, bit for bit.

Real signals to the real trainer (interrupted_trainer.py), at a known call of a known function: no timing has a say.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer import checkpoint
from trainer.spec.events import EXIT_STOPPED, Event, parse_event

STEPS = 5
LORA = {"rank": 4, "dropout": 0.1}
KINDS = {
    # The size of the data set: 8 ends an epoch with step 2, which has a checkpoint; 10 ends one within step 3, whose
    # prompts come from both, and one with the last step.
    "full": ({"id": "builtin/tiny-arith"}, 8),
    "lora": ({"id": "builtin/tiny-arith", "lora": LORA}, 10),
}

# (step, function, call within the step): see POINTS of interrupted_trainer.py. Checkpoints and evaluations are due
# after steps 2, 4 and 5; a step verifies once for its rollouts and once for its evaluation, and updates twice.
POINTS = {
    "before the first evaluation": (0, "evaluations", 1),
    "in the first evaluation": (0, "verification", 1),
    "sampling the first step": (1, "sampled_token", 2),
    "sampling after an epoch's edge": (3, "sampled_token", 3),
    "verifying": (4, "verification", 1),
    "between two updates": (3, "update", 2),
    "between the last two updates": (5, "update", 2),
    "evaluating": (2, "verification", 2),
    "in the last evaluation": (5, "verification", 2),
    "writing the first checkpoint": (2, "optimizer_file", 1),
    "writing a later checkpoint": (4, "manifest", 3),
    "writing the last checkpoint": (5, "optimizer_file", 1),
    "after the rename, before the event": (2, "rename", 1),
    "after the last rename, before the event": (5, "rename", 1),
    "deleting an old checkpoint": (4, "pruning", 1),
}
STOPS = {
    # A stop waits for the end of the step in hand, so these are all there are: in a step, and after the look at it.
    "before the first evaluation": 1,
    "between two updates": 3,
    "between the last two updates": 5,
    "writing the first checkpoint": 3,
    "writing a later checkpoint": 5,
}
"""Point -> the step after which a stop there ends the run."""


@dataclass
class Run:
    """The attempts of a run so far."""

    folder: Path
    codes: list[int] = field(default_factory=list)
    events: list[list[Event]] = field(default_factory=list)
    stderr: str = ""

    def metrics(self, attempt: int) -> dict[int, dict[str, object]]:
        """Step -> its metrics, evaluations merged in, without those that a clock decides."""
        rows: dict[int, dict[str, object]] = {}
        for event in self.events[attempt]:
            if event.type in ("step", "eval"):
                values = {key: value for key, value in event.metrics.items() if not key.startswith("perf/")}
                rows.setdefault(event.step, {}).update(values)
        return rows

    def files(self) -> dict[str, bytes]:
        """What the last checkpoint holds, but for which other checkpoints there are (`scores`)."""
        last = self.folder / "checkpoints" / str(STEPS)
        files = {str(path.relative_to(last)): path.read_bytes() for path in last.rglob("*") if path.is_file()}
        del files["manifest.json"]
        state = json.loads(files.pop("state.json"))
        return {**files, "state": json.dumps({key: state[key] for key in state if key != "scores"}).encode()}


Start = Callable[..., None]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Iterator[Start]:
    """start(run, kind, interrupt=None, *arguments, **sections): one more attempt of `run`, to its end."""
    folder = tmp_path_factory.mktemp("data")
    pairs = [(a, b) for a in (12, 34, 51, 27, 48) for b in (13, 25)]
    for _, size in KINDS.values():
        lines = [json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a, b in pairs[:size]]
        (folder / f"{size}.jsonl").write_text("\n".join(lines))
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("interrupted_trainer.py")), str(model_cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    )

    def start(run: Run, kind: str, *arguments: str, interrupt: dict[str, Any] | None = None, **sections: Any) -> None:
        model, size = KINDS[kind]
        data = str(folder / f"{size}.jsonl")
        spec = {
            "name": "a run",
            "model": model,
            "data": {"train": data},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "algorithm": {"kl_coef": 0.01},
            "optim": {"lr": 1e-3, "prompts_per_step": 4, "prompts_per_update": 2},
            "train": {"steps": STEPS},
            "eval": [{"name": "held_out", "data": data, "every": 2, "max_problems": 3}],
            "checkpoint": {"every": 2, "keep_last": 1},
            "diagnostics": {"every": 2, "rollout_groups": 0},
        }
        run.folder.mkdir(exist_ok=True)
        file = run.folder / "spec.yaml"
        file.write_text(json.dumps(spec | sections))
        order = {
            "arguments": [*map(str, (file, "--run-dir", run.folder, "--cache-dir", model_cache)), *arguments],
            "stdout": str(run.folder / "events"),
            "stderr": str(run.folder / "log"),
            "interrupt": interrupt,
        }
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        run.codes.append(int(process.stdout.readline()))
        run.events.append([parse_event(line) for line in (run.folder / "events").read_text().splitlines()])
        run.stderr = (run.folder / "log").read_text()

    with process:
        yield start
        process.stdin.close()


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, start: Start) -> tuple[str, Run]:
    """The run that was never interrupted."""
    run = Run(tmp_path_factory.mktemp("whole") / request.param)
    start(run, request.param)
    assert run.codes == [0], run.stderr
    return request.param, run


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_resumed_it_equals_a_run_that_never_ended(
    whole: tuple[str, Run], start: Start, tmp_path: Path, point: str
):
    step, function, _ = POINTS[point]
    # A checkpoint is there from its rename on, and not before.
    complete = step if function in ("rename", "pruning") else max(0, step - 1) // 2 * 2
    check(whole, start, tmp_path / "run", point, signal.SIGKILL, -signal.SIGKILL, complete)


@pytest.mark.parametrize("point", STOPS)
def test_stopped_and_resumed_it_equals_a_run_that_never_ended(
    whole: tuple[str, Run], start: Start, tmp_path: Path, point: str
):
    code = 0 if STOPS[point] == STEPS else EXIT_STOPPED
    check(whole, start, tmp_path / "run", point, signal.SIGTERM, code, STOPS[point])


def check(
    whole: tuple[str, Run], start: Start, folder: Path, point: str, number: signal.Signals, code: int, complete: int
) -> None:
    """Interrupt a run, find `code` and the checkpoint of step `complete` (0: none), resume, compare with `whole`."""
    kind, expected = whole
    run = Run(folder)
    step, function, call = POINTS[point]
    start(run, kind, interrupt={"signal": number, "step": step, "point": function, "call": call})
    assert run.codes == [code], run.stderr
    latest = checkpoint.latest(folder / "checkpoints")
    assert (0 if latest is None else int(latest.name)) == complete
    start(run, kind, *(["--resume", "latest"] if complete else []))
    assert run.codes[1] == 0, run.stderr
    assert run.events[1][0].resumed_from == complete

    rows = expected.metrics(0)
    first, second = run.metrics(0), run.metrics(1)
    for attempt in (first, second):
        for step, values in attempt.items():
            # A killed attempt may lack the evaluation of its last step.
            assert values.items() <= rows[step].items()
    assert {**first, **second} == rows
    assert run.files() == expected.files()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [str(STEPS)]
