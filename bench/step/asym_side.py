"""Our side: `trainer.loop.train_step`, whole, as a job runs it.  python -m bench.step.asym_side WORKLOAD.json

Three things differ from a job, and are set from outside so that the trainer is measured as it is: the reward is the
benchmark's (`bench.step.reward`), events go into memory, and with fixed lengths no token ends a response.
"""

import importlib.metadata
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from bench.step.memory import memory_bytes, peak_memory_bytes
from bench.step.protocol import Channel, Ready, StepReport
from bench.step.reward import parity_reward
from bench.step.weights import WeightWatch
from bench.step.workload import NO_TOKEN, Workload
from trainer.event_stream import EventStream
from trainer.loop import Training, train_step
from trainer.rewards import Verdict, VerifyItem
from trainer.run import Folders, open_training
from trainer.spec import JobSpec

_PHASES = ("rollout", "reward", "update")


def job_spec(workload: Workload) -> JobSpec:
    """The workload as a job would say it."""
    return JobSpec.model_validate(
        {
            "name": "bench",
            "model": {"id": "path/bench", "dtype": workload.dtype},
            "data": {
                "train": "bench",
                "max_prompt_tokens": workload.max_prompt_tokens,
                "system_prompt": workload.system_prompt,
            },
            "reward": {"kind": "exact"},
            "algorithm": {"preset": "grpo", "clip_low": workload.clip, "clip_high": workload.clip},
            "rollout": {
                "group_size": workload.group_size,
                "temperature": workload.temperature,
                "max_new_tokens": workload.new_tokens,
            },
            "optim": {
                "lr": workload.learning_rate,
                "prompts_per_step": workload.prompts,
                "max_grad_norm": workload.max_grad_norm,
                "max_tokens_per_micro_batch": workload.asym_max_tokens,
            },
            "train": {"steps": workload.steps},
            "diagnostics": {"every": workload.asym_diagnostics_every},
            "seed": workload.seed,
        }
    )


def opened(workload: Workload, run_dir: Path) -> AbstractContextManager[Training]:
    """Everything loaded, as `asym train` loads it; `prepare` comes next."""
    folders = Folders(
        run=run_dir,
        cache=run_dir,
        models=None,
        model=Path(workload.model),
        data={"bench": Path(workload.asym_data)},
    )
    events = EventStream(io.StringIO())
    return open_training(job_spec(workload), folders, events, resume=None, prune_checkpoints=True)


def prepare(training: Training, workload: Workload) -> Callable[[], int]:
    """Put in the benchmark's reward and lengths. Returns a counter of the prompt tokens sampled from so far."""
    if not workload.natural_lengths:
        training.policy.eos_ids = frozenset({NO_TOKEN})

    def score(items: Sequence[VerifyItem], timeout_seconds: float | None = None) -> list[Verdict]:
        return [Verdict(parity_reward(item.response), None, 0.0) for item in items]

    generate, prompt_tokens = training.engine.generate, 0

    def counted(prompts: Sequence[Sequence[int]], *, samples_per_prompt: int, **options: Any) -> Any:  # noqa: ANN401
        nonlocal prompt_tokens
        prompt_tokens += samples_per_prompt * sum(map(len, prompts))
        return generate(prompts, samples_per_prompt=samples_per_prompt, **options)

    training.verifier.score = score  # type: ignore[method-assign]
    training.engine.generate = counted  # type: ignore[method-assign]
    return lambda: prompt_tokens


def updates_made(optimizer: torch.optim.Optimizer) -> int:
    """By the optimizer's own count."""
    return max((int(state["step"]) for state in optimizer.state.values()), default=0)


def main(workload: Workload) -> None:
    channel = Channel()
    torch.set_num_threads(workload.threads)
    with tempfile.TemporaryDirectory() as run_dir, opened(workload, Path(run_dir)) as training:
        device, prompt_tokens = training.policy.device, prepare(training, workload)
        watch = WeightWatch(training.policy.model.parameters())
        channel.send(
            Ready(
                side="asym",
                device=str(device),
                parameters=training.policy.parameters,
                memory_bytes=memory_bytes(device),
                versions={name: importlib.metadata.version(name) for name in ("torch", "transformers")},
            )
        )
        while channel.step_wanted():
            tokens, prompts, started = training.tokens, prompt_tokens(), time.perf_counter()
            metrics: dict[str, Any] = dict(train_step(training, training.step + 1))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
            channel.send(
                StepReport(
                    seconds=seconds,
                    generated_tokens=training.tokens - tokens,
                    prompt_tokens=prompt_tokens() - prompts,
                    peak_memory_bytes=peak_memory_bytes(device),
                    updates=updates_made(training.optimizer),
                    loss=metrics["policy/loss"],
                    grad_norm=metrics["policy/grad_norm"],
                    reward_mean=metrics["reward/mean"],
                    weights_changed=watch.changed(),
                    phases={name: metrics[f"perf/{name}_seconds"] for name in _PHASES},
                )
            )


if __name__ == "__main__":
    main(Workload.read(Path(sys.argv[1])))
