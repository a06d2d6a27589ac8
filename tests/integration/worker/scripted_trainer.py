"""A real process that speaks the trainer's protocol and misbehaves on demand, by the spec's `name`.

Takes the trainer's command line. Before step k it waits while `hold-k` exists in the job's folder, so that a test
decides how far it gets. Its checkpoints hold only the step's number.
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

from trainer.spec.events import Checkpoint, Done, Failed, Rollout, Rollouts, Started, Step, Stopped

parser = argparse.ArgumentParser()
parser.add_argument("spec", type=Path)
parser.add_argument("--run-dir", type=Path)
parser.add_argument("--data", action="append", default=[])
parser.add_argument("--model-dir", type=Path)
parser.add_argument("--models-dir", type=Path)
parser.add_argument("--cache-dir", type=Path)
parser.add_argument("--resume", type=Path)
parser.add_argument("--supervised", action="store_true")
arguments = parser.parse_args()

spec = json.loads(arguments.spec.read_text())
behaviour, steps, every = spec["name"], spec["train"]["steps"], spec["checkpoint"]["every"]
job_dir = arguments.run_dir.parent.parent
stop = threading.Event()
out = os.fdopen(os.dup(1), "wb", buffering=0)


def say(event):
    line = event.model_dump_json().encode() + b"\n"
    while line:
        line = line[out.write(line) :]


def checkpoint(step):
    folder = arguments.run_dir / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    (folder / "state").write_text(str(step))
    state = {"bytes": len(str(step)), "sha256": hashlib.sha256(str(step).encode()).hexdigest()}
    manifest = json.dumps({"format": 1, "step": step, "files": {"state": state}})
    (folder / "manifest.json").write_text(manifest)
    sha256 = hashlib.sha256(manifest.encode()).hexdigest()
    say(
        Checkpoint(time=time.time(), step=step, path=f"checkpoints/{step}", manifest_sha256=sha256, bytes=1, score=None)
    )


def train_step(step):
    while (job_dir / f"hold-{step}").exists() and not stop.is_set():
        time.sleep(0.01)
    print(f"step {step} of {steps}", file=sys.stderr)
    say(Step(time=time.time(), step=step, metrics={"policy/loss": step / 10, "perf/step_seconds": 0.01}))
    rollout = Rollout(
        group=0,
        sample=0,
        row=1,
        prompt="1+1=",
        completion="\0 two",  # as a model may well write
        answer="2",
        reward=0.0,
        correct=False,
        advantage=0.0,
        tokens=2,
        truncated=False,
        entropy=None,
    )
    say(Rollouts(time=time.time(), step=step, rollouts=[rollout]))


def main():
    first = 0 if arguments.resume is None else int((arguments.resume / "state").read_text())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "silent":
        return 0
    if behaviour == "damaged-checkpoint" and arguments.resume is not None and first > 1:
        say(Failed(time=time.time(), kind="infrastructure", code="checkpoint_damaged", message="not as written"))
        return 3
    (arguments.run_dir / "environment.json").write_text(json.dumps(dict(os.environ)))
    (arguments.run_dir / "arguments.json").write_text(json.dumps(sys.argv[1:]))
    say(
        Started(
            time=time.time(),
            resumed_from=first,
            steps=steps,
            device="cpu",
            parameters=1,
            prompts=64,
            prompts_dropped=0,
        )
    )
    if behaviour == "garbage":
        out.write(b'not an event\n{"type": "step"}\n\xff\xfe\0\n')
        for _ in range(40):
            out.write(b"x" * (1 << 20))
        out.write(b"\n")
        os.write(2, b"\xff\0 not text\n" + b"y" * 100_000 + b"\n10%\r50%\r100%\r\n")
    if behaviour == "flood":
        for number in range(6000):
            os.write(2, b"line %d\n" % number)
    for step in range(first + 1, steps + 1):
        if behaviour == "user-error" and step == 3:
            say(
                Failed(time=time.time(), kind="user", code="loss_not_finite", message="NaN in step 3", evidence=["nan"])
            )
            return 2
        if behaviour == "disk-full" and step == 3 and (job_dir / "full").exists():
            message = "[Errno 28] No space left on device"
            say(Failed(time=time.time(), kind="infrastructure", code="disk_full", message=message))
            return 3
        if behaviour == "infrastructure-error" and step == 3:
            say(Failed(time=time.time(), kind="infrastructure", code="operating_system", message="disk full"))
            return 3
        if behaviour in ("segfault", "damaged-checkpoint") and step == 3 and arguments.resume is None:
            os.kill(os.getpid(), signal.SIGSEGV)
        if behaviour == "poison":
            os.kill(os.getpid(), signal.SIGABRT)
        train_step(step)
        if stop.is_set() or step == steps or step % every == 0:
            checkpoint(step)
        if stop.is_set() and step < steps:
            say(Stopped(time=time.time(), step=step))
            return 75
    say(Done(time=time.time(), step=steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
