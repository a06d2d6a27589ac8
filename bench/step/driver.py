"""./dev bench step: the same GRPO step here and in TRL 1.16, alternating, and the median ratios.

Each side is a process of its own that loads once, warms up, and then takes one step whenever it is asked to; the other
waits meanwhile. Ctrl-C ends it with the rounds there are. Exit status 1 when the sides did not do the same work, 2 when
one of them failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from bench.step.machine_state import CpuUse, cores, describe, wait_until_quiet
from bench.step.problems import make_problems, read_problems, write_problems
from bench.step.protocol import Ready, StepReport
from bench.step.results import Round, Row, SideStep, differences, summary
from bench.step.trl_venv import ROOT, trl_python
from bench.step.workload import Workload

CACHE = ROOT / ".bench"
MODELS = ("smollm2-135m", "smollm2-135m-random", "qwen3-0.6b-random", "qwen3-4b-random")

Message = TypeVar("Message", Ready, StepReport)


class SideError(Exception):
    """A side ended, or said something that is no answer."""


class Side:
    """A side's process, as the driver sees it. SideError when it fails."""

    def __init__(self, name: str, command: Sequence[str], log: Path, threads: int) -> None:
        self.name = name
        self._log = log
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            # As `trainer.process` sets it, for both: the threads of the side that waits must not spin.
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }
        with log.open("w") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C is the driver's
            )
        try:
            self.ready = self._expect(Ready)
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def step(self) -> SideStep:
        use = CpuUse(self._process.pid)
        if self._process.stdin is None:
            raise SideError(f"{self.name} has no stdin")
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure("has ended") from error
        report = self._expect(StepReport)
        return SideStep(report, *use.since())

    def close(self) -> None:
        """End it by the end of its stdin; kill it if that does not help."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    def _expect(self, message: type[Message]) -> Message:
        line = "" if self._process.stdout is None else self._process.stdout.readline()
        if not line:
            raise self._failure("has ended")
        try:
            return message(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise self._failure(f"answers {line.strip()!r}") from error

    def _failure(self, what: str) -> SideError:
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
        return SideError(f"{self.name} {what}; the end of its log:\n{tail}")


OpenSide: TypeAlias = Callable[[], Side]


def measure(asym: Side, trl: Side, *, warmup: int, rounds: int) -> Iterator[Round]:
    """Warm both up, then one step of each in turn, which of them first alternating too."""
    for side in (asym, trl):
        for _ in range(warmup):
            side.step()
    for number in range(rounds):
        if number % 2 == 0:
            ours = asym.step()
            yield Round(ours, trl.step())
        else:
            theirs = trl.step()
            yield Round(asym.step(), theirs)


def measure_in_blocks(open_asym: OpenSide, open_trl: OpenSide, *, warmup: int, rounds: int) -> list[Round]:
    """All steps of one side, then all of the other: for two models that do not fit into one memory together."""
    blocks: list[list[SideStep]] = []
    for open_side in (open_asym, open_trl):
        with open_side() as side:
            blocks.append([side.step() for _ in range(warmup + rounds)][warmup:])
    return [Round(ours, theirs) for ours, theirs in zip(*blocks, strict=True)]


def make_workload(arguments: argparse.Namespace, work: Path) -> Workload:
    """The models and files that the sides read, and the object that describes them, written to `work`."""
    from transformers import AutoTokenizer

    from bench.step.models import make_model
    from trainer.sampling_order import SamplingOrder

    steps = arguments.warmup + arguments.rounds
    model = arguments.model_dir or make_model(arguments.model, arguments.cache / "models")
    count = steps * arguments.prompts
    problems = make_problems(count, arguments.seed) if arguments.data is None else read_problems(arguments.data, count)
    order = SamplingOrder(count, arguments.prompts, arguments.seed)
    write_problems(work / "asym.jsonl", problems)
    write_problems(work / "trl.jsonl", [problems[index] for index in order.take(count)])

    tokenizer = AutoTokenizer.from_pretrained(model)  # a folder  # nosec B615
    system = Workload.system_prompt if tokenizer.chat_template else None
    longest = max(prompt_tokens(tokenizer, problem["question"], system) for problem in problems)
    micro_batch = arguments.micro_batch or arguments.prompts * arguments.group_size
    workload = Workload(
        model=str(Path(model).resolve()),
        asym_data=str(work / "asym.jsonl"),
        trl_data=str(work / "trl.jsonl"),
        steps=steps,
        dtype=arguments.dtype,
        prompts=arguments.prompts,
        group_size=arguments.group_size,
        new_tokens=arguments.new_tokens,
        natural_lengths=arguments.natural_lengths,
        system_prompt=system,
        max_prompt_tokens=longest,
        threads=arguments.threads,
        seed=arguments.seed,
        micro_batch=micro_batch,
        # As many rollouts as TRL's micro-batch: here they share their prompt.
        asym_max_tokens=longest + micro_batch * arguments.new_tokens,
        asym_diagnostics_every=arguments.diagnostics_every,
        trl_gradient_checkpointing=arguments.trl_gradient_checkpointing,
        trl_weights=arguments.trl_weights,
    )
    workload.write(work / "workload.json")
    return workload


def prompt_tokens(tokenizer: Any, question: str, system: str | None) -> int:  # noqa: ANN401
    if not tokenizer.chat_template:
        return len(tokenizer(question)["input_ids"])
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def main(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    python = arguments.trl_python or trl_python()
    with tempfile.TemporaryDirectory(dir=arguments.cache) as folder:
        work = Path(folder)
        workload = make_workload(arguments, work)
        if arguments.wait_quiet and not wait_until_quiet(arguments.wait_quiet):
            print("bench: the machine did not become quiet; measuring all the same", file=sys.stderr)

        def side(name: str, interpreter: Path | str) -> Side:
            command = [str(interpreter), "-m", f"bench.step.{name}_side", str(work / "workload.json")]
            return Side(name, command, work / f"{name}.log", workload.threads)

        readies: dict[str, Ready] = {}

        def asym_side() -> Side:
            opened = side("asym", sys.executable)
            readies["asym"] = opened.ready
            return opened

        def trl_side() -> Side:
            opened = side("trl", python)
            readies["trl"] = opened.ready
            return opened

        rounds: list[Round] = []
        try:
            if arguments.blocks:
                for each in measure_in_blocks(asym_side, trl_side, warmup=arguments.warmup, rounds=arguments.rounds):
                    rounds.append(each)
                    print(round_line(len(rounds), each), flush=True)
            else:
                with asym_side() as asym, trl_side() as trl:
                    for each in measure(asym, trl, warmup=arguments.warmup, rounds=arguments.rounds):
                        rounds.append(each)
                        print(round_line(len(rounds), each), flush=True)
        except SideError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            # Whoever has waited long enough gets what there is.
            if not rounds:
                return 130

    rows = summary(rounds, readies["asym"], readies["trl"])
    wrong = differences(
        rounds,
        readies["asym"],
        readies["trl"],
        warmup=arguments.warmup,
        same_lengths=not workload.natural_lengths,
    )
    print(report(workload, describe(), readies, rows, wrong))
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps(
                {
                    "workload": asdict(workload),
                    "machine": describe(),
                    "sides": {name: asdict(ready) for name, ready in readies.items()},
                    "rounds": [asdict(each) for each in rounds],
                    "summary": [asdict(each) for each in rows],
                    "differences": wrong,
                },
                indent=1,
            )
            + "\n"
        )
    return 1 if wrong else 0


def round_line(number: int, each: Round) -> str:
    def of(step: SideStep) -> str:
        return f"{step.report.seconds:8.2f} s ({step.cpu_seconds:7.2f} CPU s, others {step.others_share:4.0%})"

    return f"round {number}: asym {of(each.asym)}   trl {of(each.trl)}"


def report(
    workload: Workload,
    machine: Mapping[str, str | int],
    sides: Mapping[str, Ready],
    rows: Sequence[Row],
    wrong: Sequence[str],
) -> str:
    """What is printed at the end."""
    lengths = f"up to {workload.new_tokens}" if workload.natural_lengths else str(workload.new_tokens)
    lines = [
        "",
        f"machine   {machine['cpu']}, {machine['cores']} cores ({machine['instructions']}); {sides['asym'].device}",
        f"workload  {Path(workload.model).name}, {workload.dtype}, {workload.threads} threads, {workload.prompts} "
        f"prompts x {workload.group_size} rollouts x {lengths} tokens, micro-batches of {workload.micro_batch}; "
        f"asym diagnostics every {workload.asym_diagnostics_every}; trl weights {workload.trl_weights}, gradient "
        f"checkpointing {'on' if workload.trl_gradient_checkpointing else 'off'}",
    ]
    for name, ready in sides.items():
        versions = ", ".join(f"{package} {version}" for package, version in ready.versions.items())
        lines.append(f"{name:9} {versions}")
    lines += ["", f"{'':24}{'asym':>12}{'trl':>12}{'asym / trl':>14}{'lowest':>9}{'highest':>9}"]
    for each in rows:
        scale, unit = (2**20, " MiB") if "memory" in each.name else (1, "")
        lines.append(
            f"{each.name + unit:24}{each.asym / scale:12.2f}{each.trl / scale:12.2f}"
            f"{each.ratio.median:14.2f}{each.ratio.low:9.2f}{each.ratio.high:9.2f}"
        )
    lines.append("")
    if wrong:
        lines += ["THE SIDES DID NOT DO THE SAME WORK:", *(f"  {each}" for each in wrong)]
    else:
        lines.append(
            "checked: the same parameters, device, prompt tokens"
            + ("" if workload.natural_lengths else " and sampled tokens")
            + "; one update a step; losses finite; weights changed"
        )
    return "\n".join(lines)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_workload_options(parser)
    parser.add_argument("--trl-python", type=Path, help="an interpreter that has TRL, instead of .venv-trl")
    parser.add_argument("--blocks", action="store_true", help="all steps of one side first: only one model in memory")
    parser.add_argument("--wait-quiet", type=float, default=0, metavar="MINUTES", help="wait for a load below 0.5")
    parser.add_argument("--json", type=Path, help="write every figure there")
    return parser.parse_args(argv)


def add_workload_options(parser: argparse.ArgumentParser) -> None:
    """What `make_workload` reads."""

    def count(text: str, least: int = 1) -> int:
        if (value := int(text)) < least:
            raise ValueError(text)
        return value

    def count_or_none(text: str) -> int:
        return count(text, least=0)

    on_gpu = Path("/dev/nvidia0").exists()
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--model-dir", type=Path, help="a model folder of your own instead")
    parser.add_argument("--data", type=Path, help="GSM8K's JSON lines instead of made-up problems")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="weights stay float32")
    parser.add_argument("--prompts", type=count, default=4, help="prompts per step")
    parser.add_argument("--group-size", type=count, default=8, help="rollouts per prompt")
    parser.add_argument("--new-tokens", type=count, default=64, help="tokens of each response")
    parser.add_argument("--natural-lengths", action="store_true", help="responses may end earlier")
    parser.add_argument(
        "--micro-batch",
        type=count_or_none,
        default=0 if on_gpu else 8,
        help="rollouts per forward and backward pass; 0 is all at once (default: 8 on a CPU, 0 on a GPU)",
    )
    parser.add_argument("--threads", type=count, default=cores())
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--warmup", type=count_or_none, default=1, help="steps of each side before the first round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--diagnostics-every", type=count_or_none, default=1, help="asym's diagnostics.every; 0 is off")
    parser.add_argument("--trl-gradient-checkpointing", action="store_true")
    parser.add_argument("--trl-weights", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where models are made (default: .bench)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
