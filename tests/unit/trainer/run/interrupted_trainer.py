"""Runs the real trainer again and again, each time in a fork of this process, and sends it a signal at a given point.

What takes long to import and load is there once. Argument: the models cache. On stdin, one JSON object a line: the
trainer's arguments, the files for its stdout and stderr, and where to interrupt it: {signal, step, point, call} or
null. Each is answered with the exit code, negative for the signal that ended it.
"""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trainer.engines.hf
import trainer.run  # imported by the program when it runs
from trainer import __main__ as program
from trainer import checkpoint, loop
from trainer.models import load_lora_policy
from trainer.rewards import VerifierPool
from trainer.spec.model import LoraSpec

# Point -> whose function it is, and whether the signal comes before or after it.
POINTS: dict[str, tuple[Any, str, str]] = {
    "evaluations": (loop, "run_benchmarks", "before"),
    "sampled_token": (trainer.engines.hf, "sample", "before"),
    "verification": (VerifierPool, "score", "before"),
    "update": (loop, "update", "before"),
    "optimizer_file": (checkpoint, "save_file", "before"),
    "manifest": (checkpoint, "_fsync", "before"),
    "rename": (checkpoint, "write", "after"),
    "pruning": (checkpoint, "delete", "before"),
}


def interrupt(signal: int, step: int, point: str, call: int) -> None:
    """Send this process `signal` at the given call of the point's function within `step` (0: before the first)."""
    now = [0, 0]  # the step, and the calls in it

    def entering(train_step: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(run: Any, number: int) -> Any:
            now[:] = [number, 0]
            return train_step(run, number)

        return stepping

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            now[1] += 1
            is_here = now == [step, call]
            if is_here and when == "before":
                os.kill(os.getpid(), signal)
            result = function(*arguments, **named)
            if is_here and when == "after":
                os.kill(os.getpid(), signal)
            return result

        return counting

    owner, name, when = POINTS[point]
    setattr(owner, name, counted(getattr(owner, name)))
    loop.train_step = entering(loop.train_step)


def run(order: dict[str, Any]) -> None:
    for descriptor, file in ((1, order["stdout"]), (2, order["stderr"])):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
    sys.argv = ["trainer", *order["arguments"]]
    if order["interrupt"] is not None:
        interrupt(**order["interrupt"])
    code = program.main()
    sys.stderr.flush()
    # Taking this large process apart takes longer than the run.
    os._exit(code)


def main() -> None:
    places = {"cache_dir": Path(sys.argv[1]), "models_dir": None, "model_dir": None, "adapter_dir": None}
    load_lora_policy("builtin/tiny-arith", LoraSpec(), 0, device="cpu", **places)
    gc.freeze()  # or each fork's collector would copy every page by touching it
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
