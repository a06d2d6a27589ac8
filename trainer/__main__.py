"""Run one training job:  python -m trainer spec.yaml --run-dir runs/first

Events (trainer.spec.events) go to stdout, one JSON object a line; everything else goes to stderr. SIGTERM or Ctrl-C
asks for an end after the step in hand, with a checkpoint; `--resume latest` goes on from there.
"""

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TypedDict

import pydantic
import yaml

from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.launch import launch
from trainer.operator_flags import add_operator_flags, permits, read_operator_flags
from trainer.process import run_process
from trainer.rewards import Permits
from trainer.spec import JobSpec, failpoints
from trainer.spec.events import EXIT_DONE, EXIT_INFRASTRUCTURE_ERROR, EXIT_STOPPED, Done, Stopped

logger = logging.getLogger("trainer")


class _Options(TypedDict):
    resume: Path | None
    prune_checkpoints: bool
    permits: Permits


def main() -> int:
    arguments = parse_arguments()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.supervised or arguments.rank is not None:
        threading.Thread(target=die_with_supervisor, daemon=True).start()
    return run_process(lambda events: run(arguments, events, stop), rank=arguments.rank or 0)


def run(arguments: argparse.Namespace, events: EventStream, stop: threading.Event) -> int:
    spec = read_spec(arguments.spec)
    ranks = arguments.ranks or spec.ranks
    if ranks > 1 and spec.backend == "verl":
        raise RunError("ranks_of_verl", "--ranks is for backend: asym; verl has the GPUs of resources.gpus")
    if ranks > 1 and arguments.rank is None:
        return launch(sys.argv[1:], ranks, events, stop)
    # torch and transformers take seconds to import; a bad spec should not have to wait for them.
    import torch

    from trainer import checkpoint
    from trainer.backends.verl import checkpoints as verl_checkpoints
    from trainer.loop import train
    from trainer.models import ModelError
    from trainer.ranks import ALONE, join
    from trainer.run import Folders, open_training
    from trainer.spec.dataset import DataError

    on_verl = spec.backend == "verl"
    run_dir = arguments.run_dir or Path("runs") / (re.sub(r"[^A-Za-z0-9_-]+", "-", spec.name).strip("-") or "run")
    run_dir.mkdir(parents=True, exist_ok=True)
    latest = (verl_checkpoints if on_verl else checkpoint).latest
    resume = arguments.resume
    if resume is not None and str(resume) == "latest":
        resume = latest(run_dir / "checkpoints")
        if resume is None:
            raise RunError("nothing_to_resume", f"there is no whole checkpoint in {run_dir / 'checkpoints'}")
    elif resume is None and not arguments.supervised and latest(run_dir / "checkpoints") is not None:
        raise RunError(
            "run_exists", f"{run_dir} holds a run already: go on with --resume latest, or name another --run-dir"
        )
    folders = Folders(
        run=run_dir,
        cache=arguments.cache_dir,
        models=arguments.models_dir,
        model=arguments.model_dir,
        data={ref: arguments.data.get(ref, arguments.spec.parent / ref) for ref in spec.data_refs},
    )
    options: _Options = {
        "resume": resume,
        "prune_checkpoints": not arguments.supervised,
        "permits": permits(arguments, folders.private),
    }
    others = (
        contextlib.nullcontext(ALONE)
        if arguments.rank is None
        else join(arguments.rank, ranks, arguments.rendezvous, on_cpu=spec.ranks == 1)
    )
    try:
        if on_verl:
            # It brings Parquet along, which other runs need not wait for.
            from trainer.backends.verl.run import run_verl

            return run_verl(spec, folders, events, stop.is_set, python=arguments.verl_python, **options)
        with others as world, open_training(spec, folders, events, world=world, **options) as training:
            finished = train(training, stop.is_set)
            step = training.step
    except (ModelError, DataError) as error:
        raise RunError("model" if isinstance(error, ModelError) else "data", str(error)) from error
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out_of_memory",
            "the device's memory is full; lower rollout.group_size or rollout.max_new_tokens, or train an adapter "
            "(model.lora)",
            evidence=str(error).splitlines(),
        ) from error
    failpoints.hit("trainer.done")
    if not finished:
        events.emit(Stopped, step=step)
        return EXIT_STOPPED
    events.emit(Done, step=step)
    return EXIT_DONE


def read_spec(path: Path) -> JobSpec:
    """The job spec of a YAML or JSON file. RunError `bad_spec` names every field that is wrong."""
    try:
        return JobSpec.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError("bad_spec", f"{path} can't be read: {error}") from error
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'spec'}: {each['msg']}" for each in error.errors()]
        raise RunError("bad_spec", f"{path} is no job spec: {'; '.join(lines)}", evidence=lines) from error


def die_with_supervisor() -> None:
    """End this process at once when the supervisor is gone: its end of the pipe on stdin closes with it."""
    while os.read(0, 4096):
        pass
    logger.error("the supervisor is gone")
    os._exit(EXIT_INFRASTRUCTURE_ERROR)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = Path(os.environ.get("ASYM_HOME", Path.home() / ".asym"))
    models = os.environ.get("ASYM_MODELS_DIR")
    parser.add_argument("spec", type=Path, help="the job spec, YAML or JSON")
    parser.add_argument("--run-dir", type=Path, help="where checkpoints and results go (default: runs/NAME)")
    parser.add_argument("--resume", type=Path, help="a checkpoint folder to go on from, or `latest` of the run dir")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="REF=FILE",
        help="the file behind a data reference of the spec (default: the reference is a path beside the spec)",
    )
    parser.add_argument("--model-dir", type=Path, help="the folder of the job's model (default: found by its id)")
    parser.add_argument("--cache-dir", type=Path, default=home / "models-cache", help="where builtin models are kept")
    parser.add_argument("--models-dir", type=Path, default=Path(models) if models else None, help="for path/NAME")
    parser.add_argument(
        "--supervised", action="store_true", help="end when stdin does; leave old checkpoints to the supervisor"
    )
    parser.add_argument(
        "--verl-python",
        type=Path,
        default=Path(os.environ.get("ASYM_VERL_PYTHON") or sys.executable),
        help="for backend verl: the Python of the environment it is in (default: ASYM_VERL_PYTHON, else this one)",
    )
    parser.add_argument(
        "--ranks",
        type=int,
        help="processes that train together, each on a GPU of its own; all on the CPU where there is no GPU "
        "(default: as many as the spec's resources.gpus)",
    )
    # What a rank is told by the process that started it (trainer.launch).
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rendezvous", type=Path, help=argparse.SUPPRESS)
    add_operator_flags(parser)
    arguments = parser.parse_args()
    read_operator_flags(parser, arguments)
    pairs = [pair.partition("=") for pair in arguments.data]
    if not all(separator for _, separator, _ in pairs):
        parser.error("--data takes REF=FILE")
    if arguments.ranks is not None and arguments.ranks < 1:
        parser.error("--ranks must be at least 1")
    arguments.data = {reference: Path(file) for reference, _, file in pairs}
    return arguments


if __name__ == "__main__":
    sys.exit(main())
