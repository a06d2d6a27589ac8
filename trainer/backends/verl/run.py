"""A job of backend verl from its spec to its last event: checks, files, verl as a child process."""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from trainer.backends.verl import checkpoints, environment
from trainer.backends.verl.child import VerlProcess
from trainer.backends.verl.following import Follower
from trainer.backends.verl.overrides import Paths, overrides
from trainer.backends.verl.preparation import prepare
from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.rewards import Permits
from trainer.run import Folders
from trainer.spec.backend import refused
from trainer.spec.events import Started
from trainer.spec.job import JobSpec

DIFFERENCES = (
    "prompts are drawn, and rollouts sampled, in verl's order and with verl's random numbers",
    "with several updates per step a group may be cut across two of them: verl deals rollouts out by length",
    "an epoch leaves out the prompts that do not fill a step",
    "the KL term is cut at 10 nats a token",
    "entropy by channel, rollouts and clip fractions are not measured",
    "asked to stop, the run ends at once: what came after its last checkpoint is done again",
)
"""What is no field of the spec and still not as in Asym's own trainer; each run's log says it."""


def run_verl(
    spec: JobSpec,
    folders: Folders,
    events: EventStream,
    stop: Callable[[], bool],
    *,
    python: Path,
    resume: Path | None,
    prune_checkpoints: bool,
    permits: Permits,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Train; the exit code of the trainer's process, its last event emitted. For the main thread.

    python: of the environment that verl is installed in. resume: a `global_step_N` folder, from which verl goes on.
    prune_checkpoints: let verl keep the newest `keep_last` only. RunError, ModelError, DataError for what is wrong with
    the spec, the data or the environment; CheckpointError for a resume folder that is not whole.
    """
    refuse(spec)
    environment.check(python, environ)
    first = 0 if resume is None else checkpoints.step_of(resume)
    if first > spec.train.steps:
        raise RunError(
            "checkpoint_past_the_end", f"the checkpoint is of step {first}, but train.steps is {spec.train.steps}"
        )
    run_dir = folders.run.resolve()
    work = run_dir / "verl"
    work.mkdir(parents=True, exist_ok=True)
    prepared = prepare(spec, folders, work, events, permits)
    paths = Paths(
        spec=work / "spec.json",
        model=prepared.model_dir.resolve(),
        train=prepared.train,
        validation=[path for path, _ in prepared.benchmarks.values()],
        checkpoints=run_dir / "checkpoints",
        samples=work / "validation",
        metrics=work / "metrics.jsonl",
        group_log=work / "groups.jsonl",
        hydra=work / "hydra",
    )
    # Of an earlier attempt: the steps after its last checkpoint are done again.
    for file in (paths.metrics, paths.group_log):
        file.unlink(missing_ok=True)
    shutil.rmtree(paths.samples, ignore_errors=True)
    paths.spec.write_text(spec.model_dump_json(indent=1))
    given = overrides(
        spec,
        paths,
        epochs=math.ceil(spec.train.steps / (prepared.prompts // spec.optim.prompts_per_step)) + 1,
        resume=None if resume is None else resume.resolve(),
        keep_last=spec.checkpoint.keep_last if prune_checkpoints else None,
    )
    (work / "overrides.txt").write_text("\n".join(given) + "\n")
    events.log("info", "backend_verl_differs", "verl follows the spec; beyond it: " + "; ".join(DIFFERENCES))
    events.emit(
        Started,
        resumed_from=first,
        steps=spec.train.steps,
        device=f"verl on {spec.resources.gpus_in_all} GPUs",
        parameters=prepared.parameters,
        prompts=prepared.prompts,
        prompts_dropped=prepared.dropped,
    )
    follower = Follower(
        spec=spec,
        events=events,
        run_dir=run_dir,
        checkpoints=paths.checkpoints,
        samples=paths.samples,
        metrics=paths.metrics,
        group_log=paths.group_log,
        problems={name: count for name, (_, count) in prepared.benchmarks.items()},
        resumed_from=first,
    )
    command = [str(python), "-P", "-m", "verl.trainer.main_ppo", *given]
    with VerlProcess(command, cwd=work, log=work / "verl.log", environment=environ) as child:
        return follower.follow(child, stop)


def refuse(spec: JobSpec) -> None:
    """RunError that lists every field of the spec that verl cannot follow."""
    refusals = [str(one) for one in refused(spec)]
    if refusals:
        raise RunError("backend_verl_cannot", "backend verl cannot do: " + "; ".join(refusals), evidence=refusals)
