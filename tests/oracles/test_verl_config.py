"""The overrides of a spec, composed by Hydra against verl 0.9.1's own configuration files, and read back by path.

Hydra needs an older ANTLR runtime than Math-Verify, so it composes in a subprocess, all lists in one.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.backends.verl.overrides import NO_DUAL_CLIP, Paths, overrides
from trainer.spec import JobSpec
from trainer.spec.backend import refused
from trainer.spec.presets import PRESETS

ANTLR = Path(sys.prefix) / "antlr-4.9"
NASTY = "it's \\a\\ \\' ${oc.env:HOME} $x {y} [z], a=b #c \"d\" \\"

COMPOSE = """
import json, pathlib, sys, warnings
warnings.simplefilter("ignore")
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
wanted = json.load(sys.stdin)
with initialize_config_dir(sys.argv[1], version_base=None):
    composed = [compose("ppo_trainer", [one for one in given if not one.startswith("hydra.")]) for given in wanted]
keys = ("data", "actor_rollout_ref", "algorithm", "trainer", "reward", "ray_kwargs", "critic")
json.dump([{key: OmegaConf.to_container(one[key], resolve=True) for key in keys} for one in composed], sys.stdout)
"""

PATHS = Paths(
    spec=Path("/run/spec.json"),
    model=Path(f"/models/{NASTY}"),
    train=Path("/run/train.parquet"),
    validation=[Path("/run/eval-a.parquet"), Path("/run/eval-b.parquet")],
    checkpoints=Path("/run/checkpoints"),
    samples=Path("/run/validation"),
    metrics=Path("/run/metrics.jsonl"),
    group_log=Path("/run/groups.jsonl"),
    hydra=Path("/run/hydra"),
)


def job(**sections: Any) -> JobSpec:
    base = {
        "name": "x",
        "backend": "verl",
        "model": {"id": "hf/Qwen/Qwen3-4B"},
        "data": {"train": "t"},
        "reward": {"kind": "math"},
    }
    return JobSpec.model_validate({**base, **sections})


EVAL = {"name": "a", "data": "e", "every": 5, "samples": 8, "k": [1, 8], "temperature": 0.4}
SPECS = {
    **{preset: job(algorithm={"preset": preset}) for preset in PRESETS},
    "plain": job(),
    "full": job(
        model={"id": "hf/a/b", "dtype": "float32", "lora": {"rank": 8, "target_modules": ["q_proj", "v_proj"]}},
        data={"train": "t", "max_prompt_tokens": 100, "chat_template_kwargs": {"enable_thinking": False, "say": NASTY}},
        algorithm={
            "clip_low": 0.1, "clip_high": 0.3, "dual_clip": 3.5, "kl_coef": 0.02, "entropy_coef": 0.001,
            "importance_correction": "token_truncated", "importance_cap": 3.0, "loss_reduction": "fixed_length",
            "success_threshold": 0.5, "pos_scale": 0.1, "uniform_groups": "keep", "beta_pos": 1e-7,
        },
        rollout={
            "group_size": 16, "temperature": 0.7, "max_new_tokens": 30_000,
            "vllm": {"gpu_memory_utilization": 0.7, "max_model_len": 30_100, "enforce_eager": True, "sleep": False},
        },
        optim={
            "lr": 2e-6, "adam_beta1": 0.8, "adam_beta2": 0.95, "prompts_per_step": 256, "prompts_per_update": 64,
            "max_grad_norm": 0.5, "gradient_checkpointing": True, "offload": True,
        },
        train={"steps": 77},
        eval=[EVAL, {**EVAL, "name": "b"}],
        checkpoint={"every": 7, "keep_last": 3},
        resources={"gpus": 8, "nodes": 4, "tensor_parallel": 2},
        seed=11,
    ),
    "greedy": job(
        eval=[{**EVAL, "samples": 1, "k": [1], "temperature": 0}], optim={"max_tokens_per_micro_batch": 4096}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def composed() -> dict[str, dict[str, Any]]:
    if importlib.util.find_spec("verl") is None or not ANTLR.is_dir():
        pytest.skip("verl 0.9.1 and Hydra's ANTLR runtime are not installed: ./dev setup does it")
    [root] = importlib.util.find_spec("verl").submodule_search_locations
    resumed = Path("/run/checkpoints/global_step_14")
    given = [
        overrides(
            spec, PATHS, epochs=4, resume=resumed if name == "full" else None, keep_last=3 if name == "full" else None
        )
        for name, spec in SPECS.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMPOSE, f"{root}/trainer/config"],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": str(ANTLR)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(SPECS, json.loads(done.stdout), strict=True))


def at(config: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_arrives_whole(composed, preset):
    config, algorithm = composed[preset], SPECS[preset].algorithm
    assert at(config, "algorithm.adv_estimator") == "asym"
    assert at(config, "algorithm.asym") == {
        "estimator": algorithm.estimator,
        "beta_pos": algorithm.beta_pos,
        "beta_neg": algorithm.beta_neg,
        "pos_scale": algorithm.pos_scale,
        "neg_scale": algorithm.neg_scale,
        "uniform_groups": algorithm.uniform_groups,
        "success_threshold": None,
        "group_log": "/run/groups.jsonl",
    }
    actor = at(config, "actor_rollout_ref.actor")
    assert (actor["clip_ratio_low"], actor["clip_ratio_high"]) == (algorithm.clip_low, algorithm.clip_high)
    assert actor["clip_ratio_c"] == NO_DUAL_CLIP
    assert actor["entropy_coeff"] == algorithm.entropy_coef
    expected = ("seq-mean-token-sum-norm", 512) if preset == "dr_grpo" else ("token-mean", None)
    assert (actor["loss_agg_mode"], actor["loss_scale_factor"]) == expected


EXPECTED = {
    "plain": {
        "data.train_files": ["/run/train.parquet"],
        "data.train_batch_size": 128,
        "data.max_prompt_length": 512,
        "data.max_response_length": 512,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.apply_chat_template_kwargs": {},
        "data.seed": 0,
        "actor_rollout_ref.model.path": f"/models/{NASTY}",
        "actor_rollout_ref.model.enable_gradient_checkpointing": False,
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload": False,
        "actor_rollout_ref.model.lora_rank": 0,
        "actor_rollout_ref.actor.strategy": "fsdp2",
        "actor_rollout_ref.actor.fsdp_config.model_dtype": "fp32",
        "actor_rollout_ref.actor.fsdp_config.dtype": "bfloat16",
        "actor_rollout_ref.actor.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        "actor_rollout_ref.actor.ppo_mini_batch_size": 128,
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 16384,
        "actor_rollout_ref.actor.use_kl_loss": False,
        "actor_rollout_ref.actor.optim.weight_decay": 0.0,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": 8,
        "actor_rollout_ref.rollout.load_format": "dummy",
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.5,
        "actor_rollout_ref.rollout.max_model_len": None,
        "actor_rollout_ref.rollout.free_cache_engine": True,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "algorithm.rollout_correction.rollout_is": None,
        "algorithm.use_kl_in_reward": False,
        "critic.enable": False,
        "reward.custom_reward_function": {
            "path": "pkg://trainer.backends.verl.reward",
            "name": "compute_score",
            "reward_kwargs": {"spec_file": "/run/spec.json"},
        },
        "ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH": "/run/metrics.jsonl",
        "trainer.logger": ["file"],
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.save_freq": 20,
        "trainer.total_training_steps": 100,
        "trainer.total_epochs": 4,
        "trainer.max_actor_ckpt_to_keep": None,
        "trainer.resume_mode": "disable",
        "trainer.nnodes": 1,
        "trainer.n_gpus_per_node": 1,
        "trainer.v1.trainer_mode": "sync",
    },
    "full": {
        "data.apply_chat_template_kwargs": {"enable_thinking": False, "say": NASTY},
        "data.val_files": ["/run/eval-a.parquet", "/run/eval-b.parquet"],
        "data.val_max_samples": -1,
        "data.train_batch_size": 256,
        "data.max_prompt_length": 100,
        "data.max_response_length": 30_000,
        "algorithm.asym.beta_pos": 1e-7,
        "algorithm.asym.pos_scale": 0.1,
        "algorithm.asym.success_threshold": 0.5,
        "algorithm.asym.uniform_groups": "keep",
        "algorithm.rollout_correction.rollout_is": "token",
        "algorithm.rollout_correction.rollout_is_threshold": 3.0,
        "algorithm.rollout_correction.bypass_mode": False,
        "actor_rollout_ref.model.lora_rank": 8,
        "actor_rollout_ref.model.lora_alpha": 16,
        "actor_rollout_ref.model.target_modules": ["q_proj", "v_proj"],
        "actor_rollout_ref.model.enable_gradient_checkpointing": True,
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload": True,
        "actor_rollout_ref.actor.fsdp_config.dtype": "float32",
        "actor_rollout_ref.ref.fsdp_config.dtype": "float32",
        "actor_rollout_ref.ref.strategy": "fsdp2",
        "actor_rollout_ref.actor.checkpoint.save_contents": ["model", "optimizer", "extra"],
        "actor_rollout_ref.actor.clip_ratio_low": 0.1,
        "actor_rollout_ref.actor.clip_ratio_high": 0.3,
        "actor_rollout_ref.actor.clip_ratio_c": 3.5,
        "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-sum-norm",
        "actor_rollout_ref.actor.loss_scale_factor": 30_000,
        "actor_rollout_ref.actor.use_kl_loss": True,
        "actor_rollout_ref.actor.kl_loss_coef": 0.02,
        "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
        "actor_rollout_ref.actor.entropy_coeff": 0.001,
        "actor_rollout_ref.actor.optim.lr": 2e-6,
        "actor_rollout_ref.actor.optim.betas": [0.8, 0.95],
        "actor_rollout_ref.actor.optim.clip_grad": 0.5,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 64,
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 30_100,
        "actor_rollout_ref.rollout.load_format": "safetensors",
        "actor_rollout_ref.rollout.n": 16,
        "actor_rollout_ref.rollout.temperature": 0.7,
        "actor_rollout_ref.rollout.dtype": "float32",
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.7,
        "actor_rollout_ref.rollout.max_model_len": 30_100,
        "actor_rollout_ref.rollout.enforce_eager": True,
        "actor_rollout_ref.rollout.free_cache_engine": False,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 2,
        "actor_rollout_ref.rollout.seed": 11,
        "actor_rollout_ref.rollout.val_kwargs.n": 8,
        "actor_rollout_ref.rollout.val_kwargs.temperature": 0.4,
        "actor_rollout_ref.rollout.val_kwargs.do_sample": True,
        "trainer.test_freq": 5,
        "trainer.val_before_train": False,
        "trainer.validation_data_dir": "/run/validation",
        "trainer.save_freq": 7,
        "trainer.max_actor_ckpt_to_keep": 3,
        "trainer.default_local_dir": "/run/checkpoints",
        "trainer.resume_mode": "resume_path",
        "trainer.resume_from_path": "/run/checkpoints/global_step_14",
        "trainer.total_training_steps": 77,
        "trainer.nnodes": 4,
        "trainer.n_gpus_per_node": 8,
    },
    "greedy": {
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 4096,
        "actor_rollout_ref.rollout.val_kwargs.n": 1,
        "actor_rollout_ref.rollout.val_kwargs.temperature": 0.0,
        "actor_rollout_ref.rollout.val_kwargs.do_sample": False,
        "trainer.val_before_train": True,
    },
}


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, values in EXPECTED.items() for path in values])
def test_every_setting_arrives(composed, name, path):
    assert at(composed[name], path) == EXPECTED[name][path]


def test_what_is_composed_here_is_what_verl_can_do():
    assert [name for name in SPECS if refused(SPECS[name])] == ["dapo"]
