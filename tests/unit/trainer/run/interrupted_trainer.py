"""Runs the real trainer again and again, each time in a fork of this process, and sends it a signal at a given point.

What takes long to import and load is there once. Argument: the models cache. On stdin, one JSON object a line: the
trainer's arguments, the files for its stdout and stderr, and where to interrupt it: {signal, step, point, call} or
null; and where its memory is to be full: {step, phase, pass, call, times} or null. Each is answered with the exit code,
negative for the signal that ended it. With `ranks` there are so many forks (trainer.ranks), each with an exit code; the
last of them is the one that is interrupted or runs out of memory, and the first one's stdout is kept.
"""

import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer

import trainer.engines.hf
import trainer.run  # imported by the program when it runs
from trainer import __main__ as program
from trainer import checkpoint, checkpoint_folder, loop
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
    "manifest": (checkpoint_folder, "_fsync", "before"),
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


def fill_memory(step: int, phase: str, direction: str, call: int, times: int) -> None:
    """Raise OutOfMemoryError in the given pass of a decoder layer, forward or backward, within the phase (`score` or
    `update`, a function of the loop's) of `step`; in the first `times` attempts at it."""
    at: list[Any] = [0, None, 0, times]  # the step, the phase, the calls in it, how often to come

    def counted() -> None:
        at[2] += 1
        if at[:3] == [step, phase, call] and at[3]:
            at[3] -= 1
            at[2] = 0
            raise torch.OutOfMemoryError("CUDA out of memory")

    def entering(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def entered(*arguments: Any, **named: Any) -> Any:
            at[1:3] = [name, 0]
            try:
                return function(*arguments, **named)
            finally:
                at[1] = None

        return entered

    def stepping(train_step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(run: Any, number: int) -> Any:
            at[0] = number
            return train_step(run, number)

        return stepped

    def watched(forward: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*arguments: Any, **named: Any) -> Any:
            if direction == "forward":
                counted()
            output = forward(*arguments, **named)
            if direction == "backward" and output.requires_grad:
                output.register_hook(lambda _: counted())
            return output

        return watching

    for layer in (LlamaDecoderLayer, MistralDecoderLayer):
        layer.forward = watched(layer.forward)
    loop.train_step = stepping(loop.train_step)
    for name in ("score", "update"):
        setattr(loop, name, entering(name, getattr(loop, name)))


def run(order: dict[str, Any], rank: int, rendezvous: str) -> None:
    for descriptor, file in ((1, order["stdout"] if rank == 0 else os.devnull), (2, order["stderr"])):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if rank == 0 else os.O_APPEND))
        os.dup2(opened, descriptor)
    sys.argv = ["trainer", *order["arguments"]]
    if order["ranks"] > 1:
        sys.argv += ["--ranks", str(order["ranks"]), "--rank", str(rank), "--rendezvous", rendezvous]
    if order["interrupt"] is not None and rank == order["ranks"] - 1:
        interrupt(**order["interrupt"])
    if order["memory"] is not None and rank == order["ranks"] - 1:
        fill_memory(**order["memory"])
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
        # A rank ends when its stdin does.
        stdin, lifeline = os.pipe()
        with tempfile.TemporaryDirectory() as folder:
            children = []
            for rank in range(order["ranks"]):
                children.append(os.fork())
                if children[-1] == 0:
                    os.close(lifeline)
                    os.dup2(stdin, 0)
                    run(order, rank, str(Path(folder) / "rendezvous"))
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        os.close(stdin)
        os.close(lifeline)
        print(*codes, flush=True)


if __name__ == "__main__":
    main()
