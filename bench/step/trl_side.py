"""TRL's side: `trl.GRPOTrainer`, unchanged, stopped between its steps.  python -m bench.step.trl_side WORKLOAD.json

Runs in the virtual environment of `bench.step.trl_venv`. A step is timed from before its generation to after its log,
which is where TRL's own metrics are made, as ours are made within our step. Fetching the next prompts is not counted.
"""

import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from bench.step.memory import memory_bytes, peak_memory_bytes
from bench.step.protocol import Channel, Ready, StepReport
from bench.step.reward import parity_reward
from bench.step.weights import WeightWatch
from bench.step.workload import NO_TOKEN, Workload


class EnoughError(Exception):
    """The driver wants no more steps."""


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """Counts tokens and times two phases; does nothing else differently."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401
        super().__init__(**arguments)
        self.prompt_tokens = self.generated_tokens = 0
        self.phases: dict[str, float] = {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        started = time.perf_counter()
        completion_ids, logprobs = super()._generate_single_turn(prompt_ids, *arguments, **options)
        self.phases["rollout"] = time.perf_counter() - started
        self.prompt_tokens = sum(map(len, prompt_ids))
        self.generated_tokens = sum(map(len, completion_ids))
        return completion_ids, logprobs

    def _calculate_rewards(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        started = time.perf_counter()
        rewards = super()._calculate_rewards(*arguments, **options)
        self.phases["reward"] = time.perf_counter() - started
        return rewards


class StepOnDemand(TrainerCallback):
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.trainer: Trainer
        self._watch: WeightWatch
        self._started = 0.0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        device = self.trainer.accelerator.device
        parameters = list(self.trainer.model.parameters())
        self._watch = WeightWatch(parameters)
        names = ("torch", "transformers", "trl", "accelerate")
        self._channel.send(
            Ready(
                side="trl",
                device=str(device),
                parameters=sum(parameter.numel() for parameter in parameters),
                memory_bytes=memory_bytes(device),
                versions={name: importlib.metadata.version(name) for name in names},
            )
        )

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        if not self._channel.step_wanted():
            raise EnoughError
        self._started = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        trainer, logs = self.trainer, logs or {}
        if "loss" not in logs:  # the summary of the whole run
            return
        device = trainer.accelerator.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - self._started
        phases = dict(trainer.phases)
        phases["update"] = seconds - sum(phases.values())
        self._channel.send(
            StepReport(
                seconds=seconds,
                generated_tokens=trainer.generated_tokens,
                prompt_tokens=trainer.prompt_tokens,
                peak_memory_bytes=peak_memory_bytes(device),
                updates=max((int(one["step"]) for one in trainer.optimizer.state.values()), default=0),
                loss=float(logs["loss"]),
                grad_norm=float(logs["grad_norm"]),
                reward_mean=float(logs["reward"]),
                weights_changed=self._watch.changed(),
                phases=phases,
            )
        )


def rewards(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:  # noqa: ANN401
    return [parity_reward(completion[0]["content"]) for completion in completions]


def config(workload: Workload, output_dir: str) -> GRPOConfig:
    on_gpu = torch.cuda.is_available()
    return GRPOConfig(
        output_dir=output_dir,
        model_init_kwargs={"dtype": workload.trl_weights},
        use_cpu=not on_gpu,
        bf16=workload.dtype == "bfloat16",
        per_device_train_batch_size=workload.micro_batch,
        gradient_accumulation_steps=workload.rollouts // workload.micro_batch,
        gradient_checkpointing=workload.trl_gradient_checkpointing,
        num_generations=workload.group_size,
        max_completion_length=workload.new_tokens,
        temperature=workload.temperature,
        beta=0.0,
        epsilon=workload.clip,
        loss_type="dapo",  # the mean over all tokens of the step, as our token_mean
        scale_rewards="group",
        mask_truncated_completions=False,
        use_vllm=False,
        learning_rate=workload.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=workload.max_grad_norm,
        max_steps=workload.steps,
        shuffle_dataset=False,
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=workload.seed,
    )


def dataset(workload: Workload) -> Dataset:
    system = [] if workload.system_prompt is None else [{"role": "system", "content": workload.system_prompt}]
    questions = [json.loads(line)["question"] for line in Path(workload.trl_data).read_text().splitlines()]
    return Dataset.from_list([{"prompt": [*system, {"role": "user", "content": question}]} for question in questions])


def main(workload: Workload) -> None:
    channel = Channel()
    torch.set_num_threads(workload.threads)
    callback = StepOnDemand(channel)
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = Trainer(
            model=workload.model,
            reward_funcs=rewards,
            args=config(workload, output_dir),
            train_dataset=dataset(workload),
            callbacks=[callback],
        )
        if not workload.natural_lengths:
            trainer.eos_token_ids = [NO_TOKEN]
            trainer.generation_config.eos_token_id = [NO_TOKEN]
            trainer.generation_kwargs["eos_token_id"] = [NO_TOKEN]
        callback.trainer = trainer
        try:
            trainer.train()
        except EnoughError:
            return


if __name__ == "__main__":
    main(Workload.read(Path(sys.argv[1])))
