"""A trainer without a model: a step is a hash, a checkpoint some kilobytes. All else is as in the real one.

It takes the trainer's command line, says its events through the trainer's own stream, writes checkpoint folders by the
trainer's own code and dies as the trainer does. What a run gives is a pure function of (seed, step), so that whoever
watches knows each number that an uninterrupted run would have said. Jobs named `real...` go to the real trainer.

While it computes, and while a child in a session of its own does, it writes down when: `ATTEMPT SECONDS` in the file
`witness` of the job's folder, on the monotonic clock of the machine.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

STEP_SECONDS = 0.04
TICK_SECONDS = 0.02
WEIGHTS_BYTES = 4096


def state_after(seed: int, step: int) -> str:
    state = hashlib.sha256(str(seed).encode()).hexdigest()
    for number in range(1, step + 1):
        state = hashlib.sha256(f"{state} {number}".encode()).hexdigest()
    return state


def metrics_of(state: str) -> dict[str, float | int | None]:
    """What a step says that led to this state."""
    return {
        "policy/loss": int(state[:8], 16) / 2**32,
        "group/accuracy": int(state[8:12], 16) / 2**16,
        "entropy/correct": None if state[12] < "4" else int(state[12:16], 16) / 2**16,
    }


def weights_of(state: str) -> bytes:
    return hashlib.shake_256(state.encode()).digest(WEIGHTS_BYTES)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=Path)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--data", action="append")
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--supervised", action="store_true")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec.read_text())
    if spec["name"].startswith("real"):
        os.execv(sys.executable, [sys.executable, "-P", "-m", "trainer", *sys.argv[1:]])  # noqa: S606
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    witness = os.open(arguments.run_dir.parent.parent / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def computing() -> None:
        os.write(witness, f"{arguments.run_dir.name} {time.monotonic()}\n".encode())

    if os.fork() == 0:
        os.setsid()
        while True:
            computing()
            time.sleep(TICK_SECONDS)
    threading.Thread(target=die_with_supervisor, daemon=True).start()

    from trainer.process import run_process

    return run_process(lambda events: train(arguments, spec, events, stop, computing))


def die_with_supervisor() -> None:
    while os.read(0, 4096):
        pass
    os._exit(3)


def train(arguments, spec, events, stop, computing) -> int:
    from trainer.checkpoint_folder import one_file, verify, write
    from trainer.errors import CheckpointError
    from trainer.spec import failpoints
    from trainer.spec.events import Checkpoint, Done, Rollout, Rollouts, Started, Step, Stopped

    def checkpoint(step: int, state: str) -> None:
        def fill(folder: Path) -> None:
            (folder / "model").mkdir()
            with one_file(folder / "model" / "weights") as path:
                path.write_bytes(weights_of(state))
            with one_file(folder / "state.json") as path:
                path.write_text(json.dumps({"state": state, "step": step}))

        written = write(arguments.run_dir / "checkpoints", step, fill)
        events.emit(
            Checkpoint,
            step=step,
            path=str(written.path.relative_to(arguments.run_dir)),
            manifest_sha256=written.manifest_sha256,
            bytes=written.bytes,
            score=None,
        )

    steps, every, seed = spec["train"]["steps"], spec["checkpoint"]["every"], spec["seed"]
    failpoints.hit("trainer.load")
    first, state = 0, state_after(seed, 0)
    if arguments.resume is not None:
        first = verify(arguments.resume)
        try:
            state = json.loads((arguments.resume / "state.json").read_text())["state"]
        except ValueError as error:
            raise CheckpointError(f"state.json: {error}") from error
        if (arguments.resume / "model" / "weights").read_bytes() != weights_of(state):
            raise CheckpointError("the weights are not those of the state")
    events.emit(Started, resumed_from=first, steps=steps, device="cpu", parameters=1, prompts=64, prompts_dropped=0)
    for step in range(first + 1, steps + 1):
        failpoints.hit("trainer.rollout")
        computing()
        time.sleep(STEP_SECONDS / 2)
        failpoints.hit("trainer.update")
        time.sleep(STEP_SECONDS / 2)
        state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
        computing()
        print(f"step {step} of {steps}", file=sys.stderr)
        events.emit(Step, step=step, metrics=metrics_of(state) | {"perf/step_seconds": STEP_SECONDS})
        failpoints.hit("trainer.step")
        shown = Rollout(
            group=0, sample=0, row=1, prompt="1+1=", completion=state, answer="2", reward=0.0, correct=False,
            advantage=0.0, tokens=2, truncated=False, entropy=None,
        )  # fmt: skip
        events.emit(Rollouts, step=step, rollouts=[shown])
        stopping = stop.is_set()
        if stopping or step == steps or step % every == 0:
            checkpoint(step, state)
        if stopping and step < steps:
            failpoints.hit("trainer.done")
            events.emit(Stopped, step=step)
            return 75
    failpoints.hit("trainer.done")
    events.emit(Done, step=steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
