"""Runs that train an adapter: their checkpoints, what may go on from them, and what begins with them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer import checkpoint
from trainer.models import Policy, load_policy, position_ids
from trainer.spec.events import EXIT_USER_ERROR, parse_event

RANK = 4
EVAL = "eval/held_out/length_mean"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """spec(model=None, **sections): two steps on a few additions, evaluated before and after."""
    file = tmp_path_factory.mktemp("data") / "additions.jsonl"
    pairs = [(a, b) for a in (12, 34, 51, 27) for b in (13, 25)]
    file.write_text("\n".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a, b in pairs))

    def spec(model: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
        return {
            "name": "a run",
            "model": {"id": "builtin/tiny-arith", **({"lora": {"rank": RANK}} if model is None else model)},
            "data": {"train": str(file)},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "optim": {"lr": 1e-2, "prompts_per_step": 4, "prompts_per_update": 2},
            "train": {"steps": 2},
            "eval": [{"name": "held_out", "data": str(file), "samples": 4}],
        } | sections

    return spec


@pytest.fixture(scope="module")
def adapted(new_run: Callable[[Path], Any], spec: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run with an adapter."""
    run = new_run(tmp_path_factory.mktemp("adapted") / "run")
    run.start(spec())
    assert run.codes == [0], run.log
    return run


@pytest.fixture(scope="module")
def whole(new_run: Callable[[Path], Any], spec: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run of full fine-tuning."""
    run = new_run(tmp_path_factory.mktemp("whole") / "run")
    run.start(spec(model={}))
    assert run.codes == [0], run.log
    return run


def load(model_cache: Path, model_dir: Path | None) -> Policy:
    return load_policy("builtin/tiny-arith", model_dir=model_dir, cache_dir=model_cache, models_dir=None, device="cpu")


def states(policy: Policy) -> torch.Tensor:
    ids = torch.tensor([[4, 5, 13, 6, 16, 3]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        return policy.hidden_states(ids, mask, position_ids(mask))


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_an_adapters_checkpoint_holds_the_adapter_and_its_moments(adapted: Any, whole: Any, model_cache: Path):
    started = adapted.events[0][0]
    weights = load_file(adapted.checkpoint(2) / "model" / "adapter_model.safetensors")
    assert started.parameters == sum(tensor.numel() for tensor in weights.values())
    assert started.parameters < whole.events[0][0].parameters / 10
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(tensor.abs().max() > 0 for tensor in weights.values())  # B began as 0.
    # Two moments and a step count for each tensor, 4 bytes a number.
    optimizer = adapted.checkpoint(2) / "optimizer.safetensors"
    assert 8 * started.parameters < optimizer.stat().st_size < 8 * started.parameters + 600 * len(weights)
    assert bytes_below(adapted.checkpoint(2)) < bytes_below(whole.checkpoint(2)) / 8
    # Where the adapter is, the engine and the trainer agree on it.
    for row in (adapted.metrics()[1], adapted.metrics()[2]):
        assert row["rollout/logprob_diff_max"] < 1e-4
        assert row["policy/grad_norm"] > 0


def test_a_checkpoints_model_folder_is_the_policy(adapted: Any, whole: Any, model_cache: Path):
    base = states(load(model_cache, None))
    for run in (adapted, whole):
        policy = load(model_cache, run.checkpoint(2) / "model")
        assert policy.parameters == whole.events[0][0].parameters
        assert not torch.allclose(states(policy), base, atol=1e-3)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "target_modules": ["q_proj", "v_proj"]}], ids=["full", "lora"])
def test_a_new_job_begins_where_the_adapter_ended(
    adapted: Any, run: Any, spec: Callable[..., Any], model_cache: Path, lora: dict[str, Any] | None
):
    source = adapted.checkpoint(2) / "model"
    one_update = {"lr": 1e-3, "prompts_per_step": 4}
    job = spec(model={"id": "job/job_a@2", "lora": lora}, algorithm={"kl_coef": 0.01}, optim=one_update)
    run.start(job, "--model-dir", str(source))
    assert run.codes == [0], run.log
    # The same policy, up to the rounding of its weights: evaluated with the same draws it answers alike.
    assert run.metrics()[0][EVAL] == adapted.metrics()[2][EVAL]
    # And it is the reference, from which the first update has not departed yet.
    assert run.metrics()[1]["policy/kl_ref"] == pytest.approx(0, abs=1e-9)
    assert run.metrics()[2]["policy/kl_ref"] > 1e-7
    trained = load_policy(
        "job/job_b@2",
        model_dir=run.checkpoint(2) / "model",
        cache_dir=model_cache,
        models_dir=None,
        device="cpu",
    )
    assert not torch.allclose(states(trained), states(load(model_cache, source)), atol=1e-4)
    assert (run.checkpoint(2) / "model" / "base").is_dir() == (lora is not None)
    assert checkpoint.verify(run.checkpoint(2)) == 2


@pytest.mark.parametrize(
    ("wrote", "model", "complaint"),
    [
        ("whole", {"lora": {}}, "step 2 is of full fine-tuning, but model.lora asks for LoRA {"),
        ("adapted", {}, "is of LoRA {.*but model.lora asks for full fine-tuning"),
        ("adapted", {"lora": {"rank": RANK + 1}}, '"rank":4.*"rank":5'),
        ("adapted", {"lora": {"rank": RANK, "alpha": 1.0}}, '"alpha":8.0.*"alpha":1.0'),
    ],
)
def test_a_checkpoint_is_not_resumed_as_another_kind(
    request: pytest.FixtureRequest, spec: Callable[..., Any], run: Any, wrote: str, model: Any, complaint: str
):
    source = request.getfixturevalue(wrote).checkpoint(2)
    (failed,) = run.start(spec(model=model, train={"steps": 3}), "--resume", str(source))
    assert run.codes == [EXIT_USER_ERROR]
    assert failed.code == "resumed_with_another_adapter"
    assert re.search(complaint, failed.message)


def test_an_adapter_is_not_resumed_on_other_weights(adapted: Any, whole: Any, run: Any, spec: Callable[..., Any]):
    arguments = ("--resume", str(adapted.checkpoint(2)), "--model-dir", str(whole.checkpoint(2) / "model"))
    (failed,) = run.start(spec(train={"steps": 3}), *arguments)
    assert run.codes == [EXIT_USER_ERROR]
    assert failed.code == "model"
    assert "not those that the LoRA adapter was trained on" in failed.message


def test_a_module_that_is_not_there_is_the_users_error(run: Any, spec: Callable[..., Any]):
    (failed,) = run.start(spec(model={"lora": {"target_modules": ["query"]}}))
    assert run.codes == [EXIT_USER_ERROR]
    assert failed.code == "model"
    assert "no module is called 'query'; LoRA adapts down_proj" in failed.message


def test_dropout_is_in_the_update_and_not_in_what_is_measured(run: Any, spec: Callable[..., Any]):
    one_update = {"lr": 1e-2, "prompts_per_step": 4}
    run.start(spec(model={"lora": {"rank": RANK, "dropout": 0.5}}, optim=one_update))
    assert run.codes == [0], run.log
    # The adapter begins as nothing, and dropping half of nothing changes nothing; in the second step it is something.
    # Without dropout the one update of a step would see the very policy that sampled.
    assert run.metrics()[1]["policy/kl_old"] == pytest.approx(0, abs=1e-9)
    assert run.metrics()[2]["policy/kl_old"] > 1e-4
    assert run.metrics()[2]["rollout/logprob_diff_max"] < 1e-4


def test_an_adapters_checkpoint_can_be_evaluated_alone(adapted: Any, spec: Callable[..., Any], tmp_path: Path):
    data = spec()["data"]["train"]
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "trainer.eval_checkpoint",
                str(adapted.checkpoint(2)),
                "--data",
                f"held_out={data}",
            ),
            *("--samples", "4", "--temperature", "0.4", "--results", str(tmp_path), "--cache-dir", str(adapted.cache)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    event = parse_event(done.stdout.splitlines()[-1])
    assert event.metrics[EVAL] == adapted.metrics()[2][EVAL]
