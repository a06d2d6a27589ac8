"""Evaluate a checkpoint alone:  python -m trainer.eval_checkpoint runs/first/checkpoints/60 --data test.jsonl

The model is a checkpoint of a run (checked against its manifest; the run's spec gives what is not said here: verifier,
prompts, response length, seed), a run's folder (its newest checkpoint), any Hugging Face folder, or a model id. One
`eval` event per benchmark goes to stdout as a JSON line, per-problem results to `--results`/NAME.jsonl.
"""

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.operator_flags import add_operator_flags, permits, read_operator_flags
from trainer.process import run_process
from trainer.spec import JobSpec
from trainer.spec.events import EXIT_DONE, Eval

PAPER_TEMPERATURE = 0.4
"""What the paper evaluates at (arXiv 2604.04894)."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated: an id that `load_policy` takes, its folder if it has one, and what its run says."""

    model_id: str
    folder: Path | None
    step: int
    run_spec: dict[str, Any] | None


def main() -> int:
    arguments = parse_arguments()
    return run_process(lambda events: run(arguments, events))


def run(arguments: argparse.Namespace, events: EventStream) -> int:
    for name, file in arguments.data:
        if not Path(file).is_file():
            raise RunError("data_not_found", f"--data {name}: there is no file {file}")
    subject = find_subject(arguments.model)
    spec = evaluation_spec(arguments, subject)
    # torch and transformers take seconds to import; wrong usage should not have to wait for them.
    from trainer.engines import open_engine
    from trainer.evaluation import Benchmark, evaluate
    from trainer.models import ModelError, load_policy
    from trainer.response_text import Decoder
    from trainer.run import Folders, load_benchmark, open_verifier, placement
    from trainer.spec.dataset import DataError
    from trainer.verifiability import check_verifiers

    folders = Folders(
        run=arguments.results,
        cache=arguments.cache_dir,
        models=arguments.models_dir,
        model=subject.folder,
        data={reference: Path(reference) for reference in spec.data_refs},
    )
    device, compute_dtype = placement(spec)
    try:
        policy = load_policy(
            subject.model_id,
            model_dir=subject.folder,
            cache_dir=folders.cache,
            models_dir=folders.models,
            device=device,
        )
        decode = Decoder(policy.tokenizer)
        with (
            open_verifier(spec, permits(arguments, folders.private)) as verifier,
            open_engine(spec, policy, compute_dtype, events) as engine,
        ):
            for index, benchmark_spec in enumerate(spec.eval):
                benchmark = Benchmark(benchmark_spec, load_benchmark(spec, index, policy, folders, events))
                check_verifiers(spec, benchmark_spec.data, benchmark.prompts.prompts, verifier, events)
                results = arguments.results / f"{benchmark_spec.name}.jsonl"
                metrics = evaluate(benchmark, spec, engine, verifier, decode, results)
                events.emit(Eval, step=subject.step, name=benchmark_spec.name, metrics=metrics)
    except (ModelError, DataError) as error:
        raise RunError("model" if isinstance(error, ModelError) else "data", str(error)) from error
    return EXIT_DONE


def find_subject(model: str) -> Subject:
    """A folder that exists wins over a model id of the same text. RunError says what is wrong with the folder."""
    from trainer import checkpoint

    folder = Path(model)
    if not folder.is_dir():
        return Subject(model, None, 0, None)
    if (folder / "checkpoints").is_dir():
        newest = checkpoint.latest(folder / "checkpoints")
        if newest is None:
            raise RunError("no_checkpoint", f"there is no whole checkpoint in {folder / 'checkpoints'}")
        folder = newest
    if (folder / "manifest.json").is_file():
        step = checkpoint.verify(folder)
        run_spec = checkpoint.read_state(folder)["spec"]
        return Subject(run_spec["model"]["id"], folder / "model", step, run_spec)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("._-") or "model"
    return Subject(f"path/{name[:128]}", folder, 0, None)


def evaluation_spec(arguments: argparse.Namespace, subject: Subject) -> JobSpec:
    """The run's spec, or a bare one, with these benchmarks. RunError `bad_spec` names each option that is wrong."""
    run_spec = subject.run_spec or {}
    benchmarks = [
        {
            "name": name,
            "data": str(file),
            "columns": {"prompt": arguments.prompt_column, "answer": arguments.answer_column},
            "samples": arguments.samples,
            "k": arguments.k or powers_of_two(arguments.samples),
            "temperature": arguments.temperature,
            "max_new_tokens": arguments.max_new_tokens,
            "max_problems": arguments.max_problems,
        }
        for name, file in arguments.data
    ]
    reward = dict(run_spec.get("reward", {}))
    if arguments.kind is not None and arguments.kind != reward.get("kind"):
        reward = {"kind": arguments.kind}
    if not reward:
        raise RunError("bad_spec", "--kind: which verifier judges? A model that is no run's checkpoint does not say")
    data = {**run_spec.get("data", {}), "train": benchmarks[0]["data"], "columns": {}}
    for option in ("system_prompt", "prompt_template", "max_prompt_tokens"):
        if getattr(arguments, option) is not None:
            data[option] = getattr(arguments, option)
    # Of the algorithm an evaluation needs only what counts as correct; the grpo family takes any verifier.
    algorithm = {"preset": "grpo", "success_threshold": run_spec.get("algorithm", {}).get("success_threshold")}
    changes = {"name": "evaluation", "data": data, "reward": reward, "eval": benchmarks, "checkpoint": {}}
    changes["algorithm"] = algorithm
    # Not the run's engine: where a checkpoint is evaluated it may not be installed, nor may its GPUs be there.
    rollout = run_spec.get("rollout", {})
    changes["rollout"] = {**rollout, "engine": arguments.engine, "vllm": {**rollout.get("vllm", {}), "gpus": 0}}
    if arguments.seed is not None:
        changes["seed"] = arguments.seed
    try:
        return JobSpec.model_validate({"model": {"id": subject.model_id}, **run_spec, **changes})
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise RunError("bad_spec", "; ".join(lines), evidence=lines) from error


def powers_of_two(samples: int) -> list[int]:
    """1, 2, 4, ... up to `samples`: the k of a pass@k curve."""
    return [2**exponent for exponent in range(max(samples, 1).bit_length())]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.eval_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    home = Path(os.environ.get("ASYM_HOME", Path.home() / ".asym"))
    models = os.environ.get("ASYM_MODELS_DIR")
    parser.add_argument("model", help="a checkpoint, run or model folder, or a model id")
    parser.add_argument(
        "--data", action="append", required=True, metavar="[NAME=]FILE", help="a benchmark; may be given several times"
    )
    parser.add_argument("--kind", help="the verifier (default: the run's)")
    parser.add_argument("--samples", type=int, default=1, help="responses to each problem")
    parser.add_argument("--k", type=int, action="append", help="pass@k for this k (default: 1, 2, 4, ... --samples)")
    parser.add_argument("--temperature", type=float, default=PAPER_TEMPERATURE, help="0 is greedy")
    parser.add_argument("--max-new-tokens", type=int, help="(default: the run's, else 512)")
    parser.add_argument("--max-problems", type=int, help="the first so many of each benchmark")
    parser.add_argument("--max-prompt-tokens", type=int)
    parser.add_argument("--system-prompt", help="(default: the run's)")
    parser.add_argument("--prompt-template", help="(default: the run's)")
    parser.add_argument("--prompt-column")
    parser.add_argument("--answer-column")
    parser.add_argument("--engine", choices=["auto", "hf", "vllm"], default="auto", help="what samples the responses")
    parser.add_argument("--seed", type=int, help="(default: the run's, else 0)")
    parser.add_argument("--results", type=Path, default=Path("evals"), help="folder for the results of each problem")
    parser.add_argument("--cache-dir", type=Path, default=home / "models-cache", help="where builtin models are kept")
    parser.add_argument("--models-dir", type=Path, default=Path(models) if models else None, help="for path/NAME")
    add_operator_flags(parser)
    arguments = parser.parse_args()
    read_operator_flags(parser, arguments)
    named = [given.rpartition("=") for given in arguments.data]
    arguments.data = [(name or re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(file).stem), file) for name, _, file in named]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
