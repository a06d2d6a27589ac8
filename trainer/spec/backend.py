"""Which trainer runs a job, and what of the spec verl 0.9.1 cannot do exactly as it says.

`refused` is the one list of that: the API answers with it, and the trainer asks it before anything starts. Every
reason was read off verl's source, whose file stands beside it, so that a newer verl can be held against it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from trainer.spec.algorithm import Schedule
from trainer.spec.reward import parse_kind

if TYPE_CHECKING:
    from trainer.spec.job import JobSpec

Backend = Literal["asym", "verl"]

MAX_VERL_SEED = 2**32 - 1
"""numpy's, which verl's workers seed."""

_OWN_REWARD_FAMILIES = ("http", "python")


class Refusal(NamedTuple):
    """One field that the backend cannot follow: its place in the spec, and why."""

    loc: tuple[str | int, ...]
    reason: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.reason}"


def refused(spec: "JobSpec") -> list[Refusal]:
    """Every field that the job's backend cannot do exactly as the spec says; none for `asym`."""
    if spec.backend == "asym":
        return []
    return [
        *_algorithm(spec),
        *_reward(spec),
        *_model(spec),
        *_optim(spec),
        *_eval(spec),
        *_preflight(spec),
        *_machines(spec),
    ]


def _algorithm(spec: "JobSpec") -> Iterator[Refusal]:
    algorithm = spec.algorithm
    for name in ("beta_pos", "beta_neg"):
        if isinstance(getattr(algorithm, name), Schedule):
            # trainer/ppo/ray_trainer.py, compute_advantage
            yield Refusal(("algorithm", name), "verl does not tell an advantage estimator the step: give a number")
    if algorithm.entropy_target is not None:
        yield Refusal(("algorithm", "entropy_target"), "verl's entropy_coeff is constant")  # workers/utils/losses.py
    if algorithm.mask_truncated:
        # trainer/ppo/v1/agent_loop_tq.py writes the response mask; nothing in the core masks a truncated response.
        yield Refusal(("algorithm", "mask_truncated"), "verl trains on truncated responses like on any other")
    if algorithm.top_entropy_fraction is not None:
        yield Refusal(("algorithm", "top_entropy_fraction"), "verl's losses know no mask by entropy")
    if algorithm.importance_correction == "sequence_masked":
        # trainer/ppo/rollout_corr_helper.py
        yield Refusal(
            ("algorithm", "importance_correction"),
            "verl masks by changing the response mask, so a masked rollout leaves the loss's denominator too; "
            "token_truncated is the same in both",
        )
    if algorithm.dynamic_sampling_rounds:
        # trainer/ppo/v1/replay_buffer.py: filter_groups samples until the batch is full, however long that takes.
        yield Refusal(("algorithm", "dynamic_sampling_rounds"), "verl's filter_groups has no limit of rounds: set 0")


def _reward(spec: "JobSpec") -> Iterator[Refusal]:
    if parse_kind(spec.reward.kind).family in _OWN_REWARD_FAMILIES:
        yield Refusal(
            ("reward", "kind"), f"what {spec.reward.kind} needs of the operator does not reach verl's reward workers"
        )
    if spec.reward.bonus:
        yield Refusal(("reward", "bonus"), "verl hands an advantage estimator one reward and no bonus beside it")


def _model(spec: "JobSpec") -> Iterator[Refusal]:
    if spec.rollout.engine == "hf":
        yield Refusal(("rollout", "engine"), "verl samples with vLLM: leave it at auto")
    if spec.rollout.vllm.gpus:
        yield Refusal(("rollout", "vllm", "gpus"), "verl samples here on the GPUs that it trains on: set 0")
    if not spec.vllm_samples_it:
        yield Refusal(("rollout", "temperature"), "vLLM, with which verl samples and evaluates, has 0 and 0.01 to 2.0")
    lora = spec.model.lora
    if lora is not None and lora.dropout:
        # workers/engine/fsdp/transformer_impl.py, _build_lora_module
        yield Refusal(("model", "lora", "dropout"), "verl's FSDP engine gives peft no dropout: set 0")
    if lora is not None and not lora.alpha.is_integer():
        yield Refusal(("model", "lora", "alpha"), "verl takes whole numbers only")  # workers/config/model.py
    if spec.seed > MAX_VERL_SEED:
        yield Refusal(("seed",), f"verl's workers take seeds up to {MAX_VERL_SEED}")


def _optim(spec: "JobSpec") -> Iterator[Refusal]:
    optim = spec.optim
    if optim.warmup_steps:
        # utils/torch_functional.py: (step - 1) / n, so that its first step has a learning rate of 0.
        yield Refusal(("optim", "warmup_steps"), "verl's warm-up begins at a learning rate of 0: set 0")
    if optim.weight_decay:
        # workers/config/optimizer.py, build_optimizer: one group of all parameters.
        yield Refusal(("optim", "weight_decay"), "verl decays biases and norms too, this spec matrices only: set 0")
    longest = spec.data.max_prompt_tokens + spec.rollout.max_new_tokens
    limit = optim.max_tokens_per_micro_batch
    if limit != "auto" and limit < longest:
        yield Refusal(
            ("optim", "max_tokens_per_micro_batch"), f"verl needs room for one whole sequence, {longest} tokens here"
        )
    rollouts = (optim.prompts_per_update or optim.prompts_per_step) * spec.rollout.group_size
    gpus = spec.resources.gpus_in_all
    if gpus and rollouts % gpus:
        yield Refusal(
            ("resources", "gpus"), f"verl deals an update's {rollouts} rollouts out in equal parts, not to {gpus} GPUs"
        )


def _eval(spec: "JobSpec") -> Iterator[Refusal]:
    # trainer/ppo/v1/trainer_base.py, _validate: one val_kwargs and one test_freq for all validation data.
    for index, benchmark in enumerate(spec.eval):
        for name in ("every", "samples", "temperature"):
            if getattr(benchmark, name) != getattr(spec.eval[0], name):
                yield Refusal(("eval", index, name), f"verl has one value for all benchmarks: eval.0.{name} differs")
        if benchmark.max_new_tokens not in (None, spec.rollout.max_new_tokens):
            yield Refusal(("eval", index, "max_new_tokens"), "verl evaluates with rollout.max_new_tokens: leave it out")
    if spec.checkpoint.keep_best is not None:
        yield Refusal(("checkpoint", "keep_best"), "verl keeps the newest checkpoints only")


def _preflight(spec: "JobSpec") -> Iterator[Refusal]:
    if spec.preflight is not None:
        yield Refusal(("preflight",), "verl has nothing before its first step: set false")


def _machines(spec: "JobSpec") -> Iterator[Refusal]:
    resources = spec.resources
    if resources.gpus == 0:
        yield Refusal(("resources", "gpus"), "verl needs a GPU")
    elif resources.gpus_per_node % resources.tensor_parallel:
        yield Refusal(("resources", "tensor_parallel"), "must divide resources.gpus: an engine stays on one machine")
