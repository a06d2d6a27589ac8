"""The job spec as Hydra overrides of verl 0.9.1's `ppo_trainer` configuration.

Whatever is not named keeps verl's default. Keys that are not
in verl's configuration get Hydra's `+`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.backends.verl.names import ADVANTAGE_FIELDS, CONFIG_KEY, ESTIMATOR, GROUP_LOG
from trainer.spec.job import JobSpec

Value = str | float | int | bool | list[str] | list[float] | None

ACTOR = "actor_rollout_ref.actor"
MODEL = "actor_rollout_ref.model"
ROLLOUT = "actor_rollout_ref.rollout"

NO_DUAL_CLIP = 1e9
"""verl cannot switch the dual clip off, but it cuts log-ratios to 20 first: no ratio reaches this, so nothing is
clipped."""

DEFAULT_TOKENS_PER_GPU = 16384
"""verl's own limit of a micro-batch, where the spec says auto: verl has no estimate by memory."""

_ADDED = (
    f"algorithm.{CONFIG_KEY}.",
    "data.apply_chat_template_kwargs.",
    "ray_kwargs.ray_init.runtime_env.env_vars.",
    "reward.custom_reward_function.reward_kwargs.",
)
"""What verl's configuration does not have."""

_REDUCTIONS = {
    "token_mean": "token-mean",
    "sequence_mean": "seq-mean-token-mean",
    "fixed_length": "seq-mean-token-sum-norm",
}


@dataclass(frozen=True)
class Paths:
    """Absolute paths that every machine of the run sees."""

    spec: Path
    """The resolved spec, which the reward workers read."""
    model: Path
    train: Path
    validation: list[Path]
    checkpoints: Path
    samples: Path
    """Where verl leaves the samples of its validations, one JSON-lines file a step."""
    metrics: Path
    """Where verl's file logger writes."""
    group_log: Path
    hydra: Path


def overrides(spec: JobSpec, paths: Paths, *, epochs: int, resume: Path | None, keep_last: int | None) -> list[str]:
    """`key=value` for each setting, as `python -m verl.trainer.main_ppo` takes them.

    epochs: at least as many passes over the data as the steps need. resume: a `global_step_N` folder. keep_last: how
    many checkpoints verl is to keep; None: all, somebody else deletes.
    """
    rows = [
        *_data(spec, paths),
        *_algorithm(spec, paths),
        *_model(spec, paths),
        *_rollout(spec),
        *_update(spec),
        *_reward(paths),
        *_trainer(spec, paths, epochs, resume, keep_last),
    ]
    return [f"{'+' * key.startswith(_ADDED)}{key}={hydra_value(value)}" for key, value in rows]


def hydra_value(value: Value) -> str:
    """A value in Hydra's override grammar, text quoted so that it comes out as it went in."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    # OmegaConf looks for interpolations behind Hydra's quotes; within them only a backslash before a quote is special.
    text = value.replace("${", "\\${")
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return "'" + text + "\\" * trailing + "'"


def _data(spec: JobSpec, paths: Paths) -> Iterator[tuple[str, Value]]:
    yield "data.train_files", [str(paths.train)]
    # verl wants validation data even where it never validates.
    yield "data.val_files", [str(path) for path in paths.validation or [paths.train]]
    yield "data.val_max_samples", -1 if paths.validation else 1
    yield "data.train_batch_size", spec.optim.prompts_per_step
    yield "data.max_prompt_length", spec.data.max_prompt_tokens
    yield "data.max_response_length", spec.rollout.max_new_tokens
    # The files hold what `trainer.prompts` lets through, so a longer prompt would be a bug: never cut it.
    yield "data.filter_overlong_prompts", False
    yield "data.truncation", "error"
    yield "data.shuffle", True
    yield "data.validation_shuffle", False
    yield "data.seed", spec.seed
    for name, value in spec.data.chat_template_kwargs.items():
        yield f"data.apply_chat_template_kwargs.{name}", value


def _algorithm(spec: JobSpec, paths: Paths) -> Iterator[tuple[str, Value]]:
    algorithm = spec.algorithm
    yield "algorithm.adv_estimator", ESTIMATOR
    for name in ADVANTAGE_FIELDS:
        yield f"algorithm.{CONFIG_KEY}.{name}", getattr(algorithm, name)
    yield f"algorithm.{CONFIG_KEY}.{GROUP_LOG}", str(paths.group_log)
    yield "critic.enable", False
    yield "algorithm.use_kl_in_reward", False
    corrected = algorithm.importance_correction == "token_truncated"
    yield "algorithm.rollout_correction.rollout_is", "token" if corrected else None
    yield "algorithm.rollout_correction.rollout_is_threshold", algorithm.importance_cap
    yield f"{ACTOR}.clip_ratio", algorithm.clip_low
    yield f"{ACTOR}.clip_ratio_low", algorithm.clip_low
    yield f"{ACTOR}.clip_ratio_high", algorithm.clip_high
    yield f"{ACTOR}.clip_ratio_c", NO_DUAL_CLIP if algorithm.dual_clip is None else algorithm.dual_clip
    yield f"{ACTOR}.loss_agg_mode", _REDUCTIONS[algorithm.loss_reduction]
    # Otherwise verl divides by the width of the batch at hand, which is another number at every step.
    yield (
        f"{ACTOR}.loss_scale_factor",
        spec.rollout.max_new_tokens if algorithm.loss_reduction == "fixed_length" else None,
    )
    yield f"{ACTOR}.entropy_coeff", algorithm.entropy_coef
    yield f"{ACTOR}.use_kl_loss", algorithm.kl_coef > 0
    yield f"{ACTOR}.kl_loss_coef", algorithm.kl_coef
    yield f"{ACTOR}.kl_loss_type", "low_var_kl"


def _model(spec: JobSpec, paths: Paths) -> Iterator[tuple[str, Value]]:
    computed = "float32" if spec.model.dtype == "float32" else "bfloat16"
    yield f"{MODEL}.path", str(paths.model)
    yield f"{MODEL}.enable_gradient_checkpointing", spec.optim.gradient_checkpointing
    yield f"{ACTOR}.strategy", "fsdp2"
    yield f"{ACTOR}.fsdp_config.model_dtype", "fp32"
    yield f"{ACTOR}.fsdp_config.dtype", computed
    yield f"{ACTOR}.fsdp_config.optimizer_offload", spec.optim.offload
    yield "actor_rollout_ref.ref.fsdp_config.dtype", computed
    yield f"{ROLLOUT}.dtype", computed
    lora = spec.model.lora
    if lora is not None:
        yield f"{MODEL}.lora_rank", lora.rank
        yield f"{MODEL}.lora_alpha", int(lora.alpha)
        yield f"{MODEL}.target_modules", lora.target_modules
        # Only the adapter is sent to the engine, which has to read the rest from disk.
        yield f"{ROLLOUT}.load_format", "safetensors"


def _rollout(spec: JobSpec) -> Iterator[tuple[str, Value]]:
    yield f"{ROLLOUT}.name", "vllm"
    yield f"{ROLLOUT}.n", spec.rollout.group_size
    yield f"{ROLLOUT}.temperature", spec.rollout.temperature
    yield f"{ROLLOUT}.top_p", 1.0
    yield f"{ROLLOUT}.top_k", -1
    yield f"{ROLLOUT}.tensor_model_parallel_size", spec.resources.tensor_parallel
    engine = spec.rollout.vllm
    yield f"{ROLLOUT}.gpu_memory_utilization", engine.memory_share
    yield f"{ROLLOUT}.max_model_len", engine.max_model_len
    yield f"{ROLLOUT}.enforce_eager", engine.enforce_eager
    yield f"{ROLLOUT}.free_cache_engine", engine.sleep
    yield f"{ROLLOUT}.calculate_log_probs", True
    yield f"{ROLLOUT}.seed", spec.seed
    if spec.eval:
        first = spec.eval[0]
        yield f"{ROLLOUT}.val_kwargs.n", first.samples
        yield f"{ROLLOUT}.val_kwargs.temperature", first.temperature
        yield f"{ROLLOUT}.val_kwargs.do_sample", first.temperature > 0


def _update(spec: JobSpec) -> Iterator[tuple[str, Value]]:
    optim = spec.optim
    longest = spec.data.max_prompt_tokens + spec.rollout.max_new_tokens
    given = optim.max_tokens_per_micro_batch
    yield f"{ACTOR}.optim.lr", optim.lr
    yield f"{ACTOR}.optim.lr_scheduler_type", "constant"
    yield f"{ACTOR}.optim.lr_warmup_steps", 0
    yield f"{ACTOR}.optim.lr_warmup_steps_ratio", 0.0
    yield f"{ACTOR}.optim.weight_decay", 0.0
    yield f"{ACTOR}.optim.betas", [optim.adam_beta1, optim.adam_beta2]
    yield f"{ACTOR}.optim.clip_grad", optim.max_grad_norm
    yield f"{ACTOR}.grad_clip", optim.max_grad_norm
    yield f"{ACTOR}.ppo_mini_batch_size", optim.prompts_per_update or optim.prompts_per_step
    yield f"{ACTOR}.ppo_epochs", 1
    yield f"{ACTOR}.use_dynamic_bsz", True
    yield f"{ACTOR}.ppo_max_token_len_per_gpu", max(DEFAULT_TOKENS_PER_GPU, longest) if given == "auto" else given
    yield f"{ACTOR}.data_loader_seed", spec.seed
    yield f"{ACTOR}.fsdp_config.seed", spec.seed


def _reward(paths: Paths) -> Iterator[tuple[str, Value]]:
    yield "reward.custom_reward_function.path", "pkg://trainer.backends.verl.reward"
    yield "reward.custom_reward_function.name", "compute_score"
    yield "reward.custom_reward_function.reward_kwargs.spec_file", str(paths.spec)
    yield "reward.reward_manager.name", "naive"


def _trainer(
    spec: JobSpec, paths: Paths, epochs: int, resume: Path | None, keep_last: int | None
) -> Iterator[tuple[str, Value]]:
    yield "trainer.use_v1", True
    yield "trainer.v1.trainer_mode", "sync"
    yield "trainer.project_name", "asym"
    yield "trainer.experiment_name", "run"
    yield "trainer.logger", ["file"]
    # Not in verl's own environment only: the process that logs may be one of a Ray cluster that was there before.
    yield "ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH", str(paths.metrics)
    yield "trainer.total_training_steps", spec.train.steps
    yield "trainer.total_epochs", epochs
    yield "trainer.val_before_train", bool(spec.eval) and resume is None
    yield "trainer.test_freq", spec.eval[0].every if spec.eval else -1
    yield "trainer.validation_data_dir", str(paths.samples)
    yield "trainer.save_freq", spec.checkpoint.every
    yield "trainer.max_actor_ckpt_to_keep", keep_last
    yield "trainer.default_local_dir", str(paths.checkpoints)
    yield "trainer.resume_mode", "disable" if resume is None else "resume_path"
    yield "trainer.resume_from_path", None if resume is None else str(resume)
    yield "trainer.nnodes", spec.resources.nodes
    yield "trainer.n_gpus_per_node", spec.resources.gpus_per_node
    if spec.model.lora is None:
        yield f"{ACTOR}.checkpoint.save_contents", ["model", "optimizer", "extra", "hf_model"]
    yield "hydra.run.dir", str(paths.hydra)
