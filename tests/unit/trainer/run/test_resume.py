"""A run that is stopped or killed at any point, resumed, equals one that never was: metrics and files, bit for bit.

Real signals to the real trainer (interrupted_trainer.py), at a known call of a known function: no timing has a say.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer import checkpoint
from trainer.spec.events import EXIT_STOPPED

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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    pairs = [(a, b) for a in (12, 34, 51, 27, 48) for b in (13, 25)]
    for _, size in KINDS.values():
        lines = [json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a, b in pairs[:size]]
        (folder / f"{size}.jsonl").write_text("\n".join(lines))
    return folder


def spec_of(kind: str, data: Path) -> dict[str, Any]:
    model, size = KINDS[kind]
    file = str(data / f"{size}.jsonl")
    return {
        "name": "a run",
        "model": model,
        "data": {"train": file},
        "reward": {"kind": "exact"},
        "rollout": {"group_size": 4, "max_new_tokens": 4},
        "algorithm": {"kl_coef": 0.01},
        "optim": {"lr": 1e-3, "prompts_per_step": 4, "prompts_per_update": 2},
        "train": {"steps": STEPS},
        "eval": [{"name": "held_out", "data": file, "every": 2, "max_problems": 3}],
        "checkpoint": {"every": 2, "keep_last": 1},
        "diagnostics": {"every": 2, "rollout_groups": 0},
    }


def files(run: Any) -> dict[str, bytes]:
    """What the last checkpoint holds, but for which other checkpoints there are (`scores`)."""
    last = run.checkpoint(STEPS)
    files = {str(path.relative_to(last)): path.read_bytes() for path in last.rglob("*") if path.is_file()}
    del files["manifest.json"]
    state = json.loads(files.pop("state.json"))
    return {**files, "state": json.dumps({key: state[key] for key in state if key != "scores"}).encode()}


@dataclass(frozen=True)
class Whole:
    """The run that was never interrupted, and how to begin another like it."""

    run: Any
    spec: dict[str, Any]


@pytest.fixture(scope="module", params=KINDS)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_run: Callable[[Path], Any], data: Path
) -> Whole:
    run, spec = new_run(tmp_path_factory.mktemp("whole") / request.param), spec_of(request.param, data)
    run.start(spec)
    assert run.codes == [0], run.log
    return Whole(run, spec)


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_resumed_it_equals_a_run_that_never_ended(whole: Whole, run: Any, point: str):
    step, function, _ = POINTS[point]
    # A checkpoint is there from its rename on, and not before.
    complete = step if function in ("rename", "pruning") else max(0, step - 1) // 2 * 2
    check(whole, run, point, signal.SIGKILL, -signal.SIGKILL, complete)


@pytest.mark.parametrize("point", STOPS)
def test_stopped_and_resumed_it_equals_a_run_that_never_ended(whole: Whole, run: Any, point: str):
    code = 0 if STOPS[point] == STEPS else EXIT_STOPPED
    check(whole, run, point, signal.SIGTERM, code, STOPS[point])


def check(whole: Whole, run: Any, point: str, number: signal.Signals, code: int, complete: int) -> None:
    """Interrupt a run, find `code` and the checkpoint of step `complete` (0: none), resume, compare with `whole`."""
    step, function, call = POINTS[point]
    run.start(whole.spec, interrupt={"signal": number, "step": step, "point": function, "call": call})
    assert run.codes == [code], run.log
    latest = checkpoint.latest(run.folder / "checkpoints")
    assert (0 if latest is None else int(latest.name)) == complete
    started = run.start(whole.spec, *(["--resume", "latest"] if complete else []))[0]
    assert run.codes[1] == 0, run.log
    assert started.resumed_from == complete

    rows = whole.run.metrics()
    first, second = run.metrics(0), run.metrics(1)
    for attempt in (first, second):
        for step, values in attempt.items():
            # A killed attempt may lack the evaluation of its last step.
            assert values.items() <= rows[step].items()
    assert {**first, **second} == rows
    assert files(run) == files(whole.run)
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == [str(STEPS)]
