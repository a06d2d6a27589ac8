"""While verl runs: each line of its log becomes our events, in the order that `trainer.spec.events` promises."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainer.backends.verl import checkpoints, group_log
from trainer.backends.verl.child import VerlProcess
from trainer.backends.verl.metrics import FAILED_GROUPS, Theirs, is_step, step_metrics
from trainer.backends.verl.validation import eval_metrics, is_complete, read_samples
from trainer.event_stream import EventStream, checked
from trainer.spec.events import (
    EXIT_DONE,
    EXIT_INFRASTRUCTURE_ERROR,
    EXIT_STOPPED,
    Checkpoint,
    Done,
    Eval,
    Failed,
    Step,
    Stopped,
)
from trainer.spec.job import JobSpec

POLL_SECONDS = 0.5
SAMPLES_SECONDS = 60.0
"""verl writes its validation samples in the background; how long to wait for the last of them."""
EVIDENCE_LINES = 40


@dataclass
class Follower:
    """Tells the lines of `metrics`, verl's file logger, as events. Paths are absolute."""

    spec: JobSpec
    events: EventStream
    run_dir: Path
    checkpoints: Path
    """Within `run_dir`."""
    samples: Path
    metrics: Path
    group_log: Path
    problems: Mapping[str, int]
    """Benchmark -> how many problems verl evaluates."""
    resumed_from: int
    """The step whose checkpoint verl goes on from; 0: from the beginning."""

    def __post_init__(self) -> None:
        self.step = self.resumed_from
        """The last step that was told."""
        self.stored = self.resumed_from
        """The last step that can be resumed from; 0: none."""

    def follow(self, child: VerlProcess, stop: Callable[[], bool]) -> int:
        """Until verl ends, or `stop` says so; the exit code of the trainer's process. Its last event is emitted."""
        lines = _new_lines(self.metrics)
        code: int | None = None
        while code is None:
            code = child.wait(POLL_SECONDS)
            if code is None and stop():
                child.end()
                self.events.emit(Stopped, step=self.stored)
                return EXIT_STOPPED
            for line in next(lines):
                self.tell(line, lambda: child.wait(0.0) is None)
        if code == 0 and self.step == self.spec.train.steps:
            self.events.emit(Done, step=self.step)
            return EXIT_DONE
        self.events.emit(
            Failed,
            kind="infrastructure",
            code="verl_failed",
            message=f"verl ended with exit code {code} after step {self.step} of {self.spec.train.steps}; the end of "
            "its log is the evidence",
            step=self.step,
            evidence=child.last_lines(EVIDENCE_LINES),
        )
        return EXIT_INFRASTRUCTURE_ERROR

    def tell(self, line: "Line", may_grow: Callable[[], bool]) -> None:
        """The events of one line: the step, its evaluations, its checkpoint. `may_grow`: whether verl still runs, and
        so may still be writing samples."""
        step, theirs = line
        if is_step(theirs):
            of_groups = group_log.read(self.group_log, step - self.resumed_from)
            metrics = {**step_metrics(self.spec, theirs, step), **of_groups, "perf/finished_at": time.time()}
            self.events.emit(Step, step=step, metrics=checked(metrics))
            self.step = step
            self._warn_of_failures(step, theirs)
        if any(name.startswith("val-") for name in theirs):
            self._tell_evaluations(step, may_grow)
        # verl logs a step after it has written the step's checkpoint.
        written = checkpoints.register(self.checkpoints, step) if is_step(theirs) else None
        if written is not None:
            self.events.emit(
                Checkpoint,
                step=step,
                path=str(written.path.relative_to(self.run_dir)),
                manifest_sha256=written.manifest_sha256,
                bytes=written.bytes,
                score=None,
            )
            self.stored = step

    def _warn_of_failures(self, step: int, theirs: Theirs) -> None:
        failed = theirs.get(FAILED_GROUPS)
        if failed:
            self.events.log(
                "warning",
                "rollouts_failed",
                f"verl got no response to {failed:.0f} prompts and trained without them",
                step=step,
            )

    def _tell_evaluations(self, step: int, may_grow: Callable[[], bool]) -> None:
        file = self.samples / f"{step}.jsonl"
        deadline = time.monotonic() + SAMPLES_SECONDS
        samples = read_samples(file)
        while not is_complete(samples, self.spec, self.problems) and may_grow() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            samples = read_samples(file)
        for benchmark in self.spec.eval:
            metrics = eval_metrics(samples, self.spec, benchmark, self.problems[benchmark.name])
            if metrics is not None:
                self.events.emit(Eval, step=step, name=benchmark.name, metrics=checked(metrics))
            else:
                self.events.log(
                    "warning",
                    "evaluation_incomplete",
                    f"verl's samples of {benchmark.name} are not all there, so there are no numbers of it",
                    step=step,
                )


class Line(NamedTuple):
    """One line of verl's file logger."""

    step: int
    theirs: Theirs


def _new_lines(path: Path) -> Iterator[list[Line]]:
    """Each `next` gives the whole lines that a growing file got since the one before."""
    read = 0
    while True:
        content = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(read)
                content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        read += len(whole)
        yield [Line(parsed["step"], parsed["data"]) for parsed in map(json.loads, whole.splitlines())]
