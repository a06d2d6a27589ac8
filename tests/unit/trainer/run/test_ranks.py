"""A run of two ranks is the run of one, but for rounding: what is sampled, every metric, the gradient, the files.

Both ranks are processes of their own, on the CPU over gloo (interrupted_trainer.py).
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import MistralConfig, MistralForCausalLM

from trainer.models.tiny_arith import tiny_arith_tokenizer
from trainer.spec import JobSpec
from trainer.spec.events import EXIT_STOPPED, EXIT_USER_ERROR, parse_event

STEPS = 3
FILES = ("model/model.safetensors", "optimizer.safetensors")
ROUNDING = 1e-5
"""Of a gradient as one vector, relatively; and of a metric, where it is not below 1."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "sums.jsonl"
    pairs = [(a, b) for a in (12, 3, 51, 27, 48) for b in (13, 5)]
    file.write_text("\n".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a, b in pairs))
    return file


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `mistral`: random weights that two ranks cannot halve evenly, a head of its own, and a window that
    keeps prompts from being shared."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = tiny_arith_tokenizer()
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=21, intermediate_size=33, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=3, tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder / "mistral")
    tokenizer.save_pretrained(folder / "mistral")
    return folder


def spec_of(data: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "model": {"id": "builtin/tiny-arith"},
        "algorithm": {"kl_coef": 0.01, "entropy_coef": 0.001},
        "rollout": {"group_size": 4, "max_new_tokens": 4},
        "optim": {"lr": 3e-5, "prompts_per_step": 6, "prompts_per_update": 3},
        "train": {"steps": STEPS},
        "eval": [{"name": "held_out", "data": str(data), "every": 2, "max_problems": 3, "temperature": 0.7}],
        "checkpoint": {"every": 1, "keep_last": 9},
        "diagnostics": {"every": 2, "rollout_groups": 9},
    }
    merged = {name: {**section, **changes.pop(name, {})} if isinstance(section, dict) else section
              for name, section in sections.items()}  # fmt: skip
    return {"name": "a run", "data": {"train": str(data)}, "reward": {"kind": "exact"}, **merged, **changes}


def one_and_two(new_run: Callable[[Path], Any], folder: Path, spec: dict[str, Any], *arguments: str) -> tuple[Any, Any]:
    alone, together = new_run(folder / "alone"), new_run(folder / "together")
    alone.start(spec, *arguments)
    assert alone.codes == [0], alone.log
    together.start(spec, *arguments, ranks=2)
    assert together.codes == [0, 0], together.log
    return alone, together


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, new_run: Callable[[Path], Any], data: Path
) -> tuple[Any, Any, dict[str, Any]]:
    """The same run of one rank and of two, and its spec."""
    spec = spec_of(data)
    return *one_and_two(new_run, tmp_path_factory.mktemp("runs"), spec), spec


def assert_same_metrics(found: dict[int, dict[str, Any]], expected: dict[int, dict[str, Any]]) -> None:
    assert found.keys() == expected.keys()
    for step, values in expected.items():
        assert found[step].keys() == values.keys()
        for key, value in values.items():
            close = value if value is None else pytest.approx(value, rel=ROUNDING, abs=ROUNDING)
            assert found[step][key] == close, (step, key)


def difference(found: Path, expected: Path, ending: str = "") -> float:
    """Of the tensors, whose names end so, in two safetensors files: as one vector each, relatively."""
    one, other = load_file(found), load_file(expected)
    assert {name: tensor.shape for name, tensor in one.items()} == {n: tensor.shape for n, tensor in other.items()}
    names = [name for name in other if name.endswith(ending)]
    size = sum(other[name].double().square().sum() for name in names)
    assert size > 0
    return float((sum((one[name] - other[name]).double().square().sum() for name in names) / size) ** 0.5)


def assert_same_state(found: Any, expected: Any, step: int) -> None:
    """Weights and optimizer state after `step`."""
    weights, states = ([run.checkpoint(step) / file for run in (found, expected)] for file in FILES)
    assert difference(*weights) < ROUNDING
    assert difference(*states, "|step") == 0
    assert difference(*states, "|exp_avg") < ROUNDING
    assert difference(*states, "|exp_avg_sq") < ROUNDING


def test_two_ranks_sample_and_measure_what_one_does(runs: tuple[Any, Any, dict[str, Any]]):
    alone, together, _ = runs
    shown = [
        [
            [(each.row, each.sample, each.completion, each.reward) for each in event.rollouts]
            for event in run.events[0]
            if event.type == "rollouts"
        ]
        for run in (alone, together)
    ]
    assert shown[0] == shown[1]
    assert_same_metrics(together.metrics(), alone.metrics())
    assert any(values.get("group/mixed", 0) > 0 for values in alone.metrics().values())
    assert [event.type for event in together.events[0]] == [event.type for event in alone.events[0]]


def test_their_files_are_those_of_one(runs: tuple[Any, Any, dict[str, Any]]):
    alone, together, _ = runs
    files = [
        sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file())
        for run in (alone, together)
    ]
    assert files[0] == files[1]
    assert_same_state(together, alone, STEPS)
    states = [json.loads((run.checkpoint(STEPS) / "state.json").read_text()) for run in (alone, together)]
    assert states[0]["order"] == states[1]["order"]
    results = [(run.folder / "evals" / "held_out" / "2.jsonl").read_text() for run in (alone, together)]
    assert results[0] == results[1]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_checkpoint_is_gone_on_from_by_any_number_of_ranks(
    runs: tuple[Any, Any, dict[str, Any]], run: Any, before: int, after: int
):
    alone, together, spec = runs
    written = {1: alone, 2: together}[before].checkpoint(1)
    run.start(spec, "--resume", str(written), ranks=after)
    assert run.codes == [0] * after, run.log
    assert run.events[0][0].resumed_from == 1
    assert_same_metrics(run.metrics(), {step: alone.metrics()[step] for step in (2, 3)})
    assert_same_state(run, alone, STEPS)


MISTRAL = {"model": {"id": "path/mistral"}, "algorithm": {"preset": "grpo", "entropy_coef": 0.01}}
KINDS: dict[str, dict[str, Any]] = {
    # Passes of a few tokens each: the ranks have different numbers of them to make.
    "many passes": {"optim": {"prompts_per_step": 5, "prompts_per_update": 5, "max_tokens_per_micro_batch": 12}},
    "a rank without work": {"optim": {"prompts_per_step": 1, "prompts_per_update": 1}},
    "responses of one token": {"rollout": {"max_new_tokens": 1}, "algorithm": {"entropy_coef": 0.01}},
    "a head of its own, whole sequences": MISTRAL,
    "recomputed layers": {"optim": {"gradient_checkpointing": True, "max_tokens_per_micro_batch": 40}},
    "lora": {"model": {"lora": {"rank": 3}}},
    "lora, recomputed layers": {"model": {"lora": {"rank": 3}}, "optim": {"gradient_checkpointing": True}},
    "dynamic sampling": {"algorithm": {"dynamic_sampling_rounds": 2}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_one_rank(
    new_run: Callable[[Path], Any], tmp_path: Path, data: Path, models: Path, kind: str
):
    one_update = {"prompts_per_step": 4, "prompts_per_update": 4, **KINDS[kind].get("optim", {})}
    spec = spec_of(data, **{**KINDS[kind], "optim": one_update, "train": {"steps": 1}, "eval": []})
    alone, together = one_and_two(new_run, tmp_path, spec, "--models-dir", str(models))
    # A tenth of the gradient is AdamW's first moment after one update.
    moments = [each.checkpoint(1) / "optimizer.safetensors" for each in (together, alone)]
    assert difference(*moments, "|exp_avg") < ROUNDING
    assert_same_metrics(together.metrics(), alone.metrics())
    files = [sorted(path.name for path in (each.checkpoint(1) / "model").iterdir()) for each in (alone, together)]
    assert files[0] == files[1]


PLACES = {
    # step, phase, pass, call: of three layers (mistral: two), first over the prompts, then over their responses
    "scoring": (2, "score", "forward", 2, "shared"),
    "the first pass of all": (1, "update", "forward", 1, "shared"),
    "in the middle of a forward pass": (2, "update", "forward", 5, "shared"),
    "at the head": (2, "update", "backward", 1, "shared"),
    "in the middle of a backward pass": (2, "update", "backward", 3, "shared"),
    "on the way back through the prompts": (2, "update", "backward", 5, "shared"),
    "before a head of its own": (1, "update", "forward", 2, "head of its own"),
    "beside a head of its own": (1, "update", "backward", 2, "head of its own"),
    "while layers are recomputed": (2, "update", "forward", 8, "recomputed"),
}
MODELS: dict[str, dict[str, Any]] = {
    "shared": {},
    "head of its own": MISTRAL,
    "recomputed": {"optim": {"gradient_checkpointing": True}},
}


@pytest.fixture(scope="module")
def with_enough_memory(
    tmp_path_factory: pytest.TempPathFactory, new_run: Callable[[Path], Any], data: Path, models: Path
) -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """with_enough_memory(kind): a run of one rank of this kind of MODELS, and its spec."""

    @cache
    def with_enough_memory(kind: str) -> tuple[Any, dict[str, Any]]:
        optim = {"max_tokens_per_micro_batch": 2048, **MODELS[kind].get("optim", {})}
        spec = spec_of(data, **{**MODELS[kind], "optim": optim, "eval": []})
        run = new_run(tmp_path_factory.mktemp("enough") / "run")
        run.start(spec, "--models-dir", str(models))
        return run, spec

    return with_enough_memory


@pytest.mark.parametrize("place", PLACES)
def test_when_the_memory_of_one_is_full_both_go_on_with_half(
    run: Any, with_enough_memory: Callable[[str], tuple[Any, dict[str, Any]]], models: Path, place: str
):
    step, phase, direction, call, kind = PLACES[place]
    (alone, spec), together = with_enough_memory(kind), run
    memory = {"step": step, "phase": phase, "direction": direction, "call": call, "times": 2}
    events = together.start(spec, "--models-dir", str(models), ranks=2, memory=memory)
    assert together.codes == [0, 0], together.log
    halved = [event for event in events if event.type == "log" and event.code == "micro_batch_halved"]
    assert [event.data["max_tokens_per_micro_batch"] for event in halved] == [1024, 512]
    assert json.loads((together.checkpoint(STEPS) / "state.json").read_text())["token_budget"] == 512
    assert_same_metrics(together.metrics(), alone.metrics())
    assert_same_state(together, alone, STEPS)


def test_a_memory_that_stays_full_ends_both(run: Any, data: Path):
    memory = {"step": 2, "phase": "update", "direction": "backward", "call": 2, "times": 9}
    spec = spec_of(data, eval=[], optim={"max_tokens_per_micro_batch": 1024})
    events = run.start(spec, ranks=2, memory=memory)
    assert run.codes == [EXIT_USER_ERROR, EXIT_USER_ERROR]
    assert (events[-1].code, events[-1].kind) == ("out_of_memory", "user")
    assert "even with 256 tokens" in events[-1].message


def test_a_stop_that_one_rank_hears_of_ends_both_after_the_same_step(run: Any, data: Path):
    stop = {"signal": signal.SIGTERM, "step": 2, "point": "update", "call": 1}
    events = run.start(spec_of(data, eval=[]), interrupt=stop, ranks=2)
    assert run.codes == [EXIT_STOPPED, EXIT_STOPPED], run.log
    assert (events[-1].type, events[-1].step) == ("stopped", 2)
    assert run.checkpoint(2).is_dir()


def test_started_as_one_trainer_they_stop_as_one(tmp_path: Path, data: Path, model_cache: Path):
    (tmp_path / "spec.yaml").write_text(json.dumps(spec_of(data, eval=[], train={"steps": 10_000})))
    arguments = ["spec.yaml", "--run-dir", "run", "--cache-dir", str(model_cache), "--ranks", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, sys.path)),
        },
    )
    with process:
        events = (parse_event(line) for line in process.stdout)
        assert next(events).type == "started"
        assert next(events).type == "step"
        process.send_signal(signal.SIGTERM)
        *_, written, last = events
        log = process.stderr.read()
    assert (process.returncode, written.type, last.type) == (EXIT_STOPPED, "checkpoint", "stopped"), log
    assert last.step == written.step < 10_000
    assert "2 x cpu" in log
    assert log.count("checkpoint of step 1 written") == 1


def test_gpus_that_are_not_there_are_missed(run: Any, data: Path):
    events = run.start(spec_of(data, eval=[], resources={"gpus": 2}), ranks=2)
    assert run.codes == [EXIT_USER_ERROR, EXIT_USER_ERROR]
    assert (events[-1].type, events[-1].code) == ("failed", "too_few_gpus")


def test_verl_has_ranks_of_its_own(run: Any, data: Path):
    model, reward = {"id": "path/mistral"}, {"kind": "math"}
    verl = {"name": "x", "backend": "verl", "model": model, "data": {"train": str(data)}, "reward": reward}
    events = run.start(verl, "--ranks", "2")
    assert run.codes == [EXIT_USER_ERROR]
    assert events[-1].code == "ranks_of_verl"


def test_gpus_that_only_generate_are_no_ranks(data: Path):
    def ranks(gpus: int | str, generating: int, engine: str = "vllm") -> int:
        rollout = {"engine": engine, "vllm": {"gpus": generating}}
        return JobSpec.model_validate(spec_of(data, resources={"gpus": gpus}, rollout=rollout)).ranks

    assert (ranks(4, 0), ranks(4, 1), ranks(2, 1)) == (4, 3, 1)
    for gpus in ("auto", 0, 1, 2):
        with pytest.raises(ValidationError, match=rf"rollout.vllm.gpus \(2\) are among resources.gpus \({gpus}\)"):
            ranks(gpus, 2)
    with pytest.raises(ValidationError, match=r"rollout\.vllm\.gpus needs rollout\.engine: vllm"):
        ranks(4, 1, "auto")
