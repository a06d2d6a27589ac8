"""What verl cannot do is named field by field, and nothing else is."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainer.spec import JobSpec
from trainer.spec.backend import refused

BASE: dict[str, Any] = {
    "name": "x",
    "backend": "verl",
    "model": {"id": "hf/a/b"},
    "data": {"train": "t"},
    "reward": {"kind": "math"},
}
SCHEDULE = {"kind": "linear", "start": 0.0, "end": 1.0, "steps": 10}
BENCHMARK = {"name": "a", "data": "e"}


def places(**sections: Any) -> list[str]:
    return [".".join(map(str, one.loc)) for one in refused(JobSpec.model_validate({**BASE, **sections}))]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"algorithm": {"beta_pos": SCHEDULE}}, ["algorithm.beta_pos"]),
        ({"algorithm": {"beta_neg": SCHEDULE}}, ["algorithm.beta_neg"]),
        ({"algorithm": {"entropy_coef": 0.1, "entropy_target": 1.0}}, ["algorithm.entropy_target"]),
        ({"algorithm": {"mask_truncated": True}}, ["algorithm.mask_truncated"]),
        ({"algorithm": {"top_entropy_fraction": 0.2}}, ["algorithm.top_entropy_fraction"]),
        ({"algorithm": {"importance_correction": "sequence_masked"}}, ["algorithm.importance_correction"]),
        ({"algorithm": {"dynamic_sampling_rounds": 1}}, ["algorithm.dynamic_sampling_rounds"]),
        ({"algorithm": {"preset": "dapo"}}, ["algorithm.mask_truncated", "algorithm.dynamic_sampling_rounds"]),
        ({"reward": {"kind": "http:judge"}, "algorithm": {"preset": "grpo"}}, ["reward.kind"]),
        ({"reward": {"kind": "math", "bonus": [{"kind": "length", "weight": 1, "start": 9}]}}, ["reward.bonus"]),
        ({"rollout": {"engine": "hf"}}, ["rollout.engine"]),
        ({"rollout": {"engine": "vllm"}}, []),
        ({"rollout": {"temperature": 3}}, ["rollout.temperature"]),
        ({"model": {"id": "hf/a/b", "lora": {"dropout": 0.1}}}, ["model.lora.dropout"]),
        ({"model": {"id": "hf/a/b", "lora": {"alpha": 1.5}}}, ["model.lora.alpha"]),
        ({"seed": 2**32}, ["seed"]),
        ({"optim": {"warmup_steps": 1}}, ["optim.warmup_steps"]),
        ({"optim": {"weight_decay": 0.1}}, ["optim.weight_decay"]),
        ({"optim": {"max_tokens_per_micro_batch": 1023}}, ["optim.max_tokens_per_micro_batch"]),
        (
            {"eval": [BENCHMARK, {**BENCHMARK, "name": "b", "every": 3, "samples": 2}]},
            ["eval.1.every", "eval.1.samples"],
        ),
        ({"eval": [BENCHMARK, {**BENCHMARK, "name": "b", "temperature": 0}]}, ["eval.1.temperature"]),
        ({"eval": [{**BENCHMARK, "max_new_tokens": 9}]}, ["eval.0.max_new_tokens"]),
        ({"checkpoint": {"keep_best": "reward/mean"}}, ["checkpoint.keep_best"]),
        ({"resources": {"gpus": 0}}, ["resources.gpus"]),
        ({"resources": {"gpus": 8, "tensor_parallel": 3}}, ["resources.tensor_parallel"]),
        ({"resources": {"gpus": 3}}, ["resources.gpus"]),
        ({"resources": {"gpus": 8}, "optim": {"prompts_per_step": 9, "prompts_per_update": 3}}, []),
        ({"resources": {"gpus": 16}, "optim": {"prompts_per_step": 9, "prompts_per_update": 3}}, ["resources.gpus"]),
        ({"seed": 2**32 - 1, "optim": {"max_tokens_per_micro_batch": 1024}}, []),
        ({"eval": [{**BENCHMARK, "max_new_tokens": 512}]}, []),
        ({"algorithm": {"importance_correction": "token_truncated", "dual_clip": 3, "kl_coef": 0.1}}, []),
        ({"model": {"id": "hf/a/b", "lora": {"rank": 4}}}, []),
    ],
)
def test_each_field_that_verl_cannot_do_is_named(sections, expected):
    assert places(**sections) == expected
    assert places(**{**sections, "backend": "asym", "resources": {}}) == []


def test_a_reason_names_its_field():
    [one] = refused(JobSpec.model_validate({**BASE, "seed": 2**40}))
    assert str(one) == "seed: verl's workers take seeds up to 4294967295"


@pytest.mark.parametrize("resources", [{"nodes": 2}, {"tensor_parallel": 2}])
def test_asyms_own_trainer_has_one_machine(resources):
    with pytest.raises(ValidationError, match="need backend: verl"):
        JobSpec.model_validate({**BASE, "backend": "asym", "resources": resources})


def test_verl_has_no_gpus_that_only_generate():
    assert places(rollout={"vllm": {"gpus": 1}}, resources={"gpus": 2}) == ["rollout.vllm.gpus"]


def test_verl_starts_its_own_processes():
    several = {**BASE, "resources": {"gpus": 4}}
    assert JobSpec.model_validate(several).ranks == 1
    assert JobSpec.model_validate({**several, "backend": "asym"}).ranks == 4


def test_the_default_is_asyms_own():
    assert JobSpec.model_validate({key: value for key, value in BASE.items() if key != "backend"}).backend == "asym"
