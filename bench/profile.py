"""./dev bench profile: where our own step's time goes, phase within phase, beside what it must at least compute.

Timers are put around functions of the trainer from outside (`SEAMS`); one that the trainer no longer has is named and
left out. CPU seconds are those of all threads together: on a machine that others use too they say more than the wall.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench.step.asym_side import opened, prepare
from bench.step.driver import add_workload_options, make_workload
from trainer.loop import train_step

SEAMS = {
    "trainer.rollouts.Sampler.collect": "rollouts",
    "trainer.engines.hf.HfEngine.generate": "generate",
    "trainer.engines.hf.HfEngine._forward": "",  # named by its input: prefill or decode
    "trainer.engines.hf.sample": "choose tokens",
    "trainer.engines.hf.reserve": "copy the prompts' cache",
    "trainer.rollouts.judge": "reward",
    "trainer.loop.score": "score",
    "trainer.loop.update": "update",
    "trainer.models.policy.Policy.hidden_states": "layers",
    "trainer.forward.token_logprobs_and_entropy": "head",
    "torch.Tensor.backward": "backward",
    "trainer.logprobs._TiledLogprobs.backward": "head",
    "torch.nn.utils.clip_grad_norm_": "clip",
    "torch.optim.AdamW.step": "optimizer",
}
"""Function -> the phase it is."""


@dataclass
class Phase:
    calls: int = 0
    wall: float = 0.0
    cpu: float = 0.0


@dataclass
class Phases:
    """Times by path: ("update", "forward", "head") is the head within the forward pass of the update."""

    synchronize: Callable[[], None]
    times: dict[tuple[str, ...], Phase] = field(default_factory=dict)
    _path: tuple[str, ...] = ()

    @contextmanager
    def timed(self, name: str) -> Any:  # noqa: ANN401
        outer, self._path = self._path, (*self._path, name)
        # Made on entering, so that phases are listed in the order in which they begin.
        phase = self.times.setdefault(self._path, Phase())
        self.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.synchronize()
            phase.calls += 1
            phase.wall += time.perf_counter() - wall
            phase.cpu += time.process_time() - cpu
            self._path = outer

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            with self.timed(name or _pass_name(*arguments)):
                return function(*arguments, **options)

        return timed

    def lines(self, steps: int) -> list[str]:
        whole = next(iter(self.times.values()))
        lines = [f"{'':40}{'calls':>7}{'wall s':>10}{'CPU s':>10}{'share':>8}"]
        for path, phase in self._in_tree_order():
            name = "  " * (len(path) - 1) + path[-1]
            lines.append(
                f"{name:40}{phase.calls / steps:7.0f}{phase.wall / steps:10.3f}{phase.cpu / steps:10.3f}"
                f"{phase.cpu / whole.cpu:8.1%}"
            )
        return lines

    def _in_tree_order(self) -> list[tuple[tuple[str, ...], Phase]]:
        def below(path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Phase]]:
            children = [other for other in self.times if other[:-1] == path]
            return [item for child in children for item in ((child, self.times[child]), *below(child))]

        return below(())


def _pass_name(_: object, input_ids: torch.Tensor, *__: object) -> str:
    return "prefill" if input_ids.shape[1] > 1 else "decode"


def put_timers(phases: Phases) -> list[str]:
    """Around every seam. Returns those that there are not."""
    missing = []
    for dotted, name in SEAMS.items():
        try:
            owner, attribute = _owner(dotted)
            function = getattr(owner, attribute)
        except (ImportError, AttributeError):
            missing.append(dotted)
            continue
        timed = phases.around(function, name)
        setattr(
            owner, attribute, staticmethod(timed) if isinstance(owner, type) and _is_static(owner, attribute) else timed
        )
    return missing


def _is_static(owner: type, attribute: str) -> bool:
    return isinstance(owner.__dict__.get(attribute), staticmethod)


def _owner(dotted: str) -> tuple[Any, str]:
    """The module or class that holds what `dotted` names, and its name there."""
    parts = dotted.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise ImportError(dotted)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev bench profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_workload_options(parser)
    arguments = parser.parse_args(argv)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.cache) as folder:
        workload = make_workload(arguments, Path(folder))
        torch.set_num_threads(workload.threads)
        with opened(workload, Path(folder)) as training:
            prompt_tokens = prepare(training, workload)
            on_gpu = training.policy.device.type == "cuda"
            phases = Phases(torch.cuda.synchronize if on_gpu else lambda: None)
            missing = put_timers(phases)
            for _ in range(arguments.warmup):
                train_step(training, training.step + 1)
            phases.times.clear()
            tokens, prompts = training.tokens, prompt_tokens()
            for _ in range(arguments.rounds):
                with phases.timed("step"):
                    train_step(training, training.step + 1)
            sampled, prompted = training.tokens - tokens, prompt_tokens() - prompts
            parameters = training.policy.parameters
    print("\n".join(phases.lines(arguments.rounds)))
    for dotted in missing:
        print(f"not there any more, and so not timed: {dotted}")
    sampled, prompted = sampled // arguments.rounds, prompted // arguments.rounds
    pass_flops = 2 * parameters * (sampled + prompted)
    print(
        f"\na step samples {sampled} tokens; with its {prompted} prompt tokens, counted for every rollout, one forward "
        f"pass of {parameters / 1e6:.1f} M parameters is {pass_flops / 1e9:.0f} GFLOP (2 per parameter and token)"
    )
    return 0
