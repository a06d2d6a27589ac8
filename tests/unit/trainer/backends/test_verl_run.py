"""A whole run of backend verl, with a stand-in for verl (fake_verl.py): files, child process, events, ends."""

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from trainer.backends.verl import checkpoints
from trainer.backends.verl.environment import check
from trainer.backends.verl.run import run_verl
from trainer.errors import CheckpointError, RunError
from trainer.event_stream import EventStream
from trainer.rewards.permits import NOTHING
from trainer.run import Folders
from trainer.spec import JobSpec
from trainer.spec.events import EXIT_DONE, EXIT_INFRASTRUCTURE_ERROR, EXIT_STOPPED, Event, parse_event

SPEC: dict[str, Any] = {
    "name": "x",
    "backend": "verl",
    "model": {"id": "path/small"},
    "data": {"train": "train", "max_prompt_tokens": 8},
    "reward": {"kind": "exact"},
    "optim": {"prompts_per_step": 2},
    "train": {"steps": 3},
    "eval": [{"name": "test", "data": "test", "every": 2, "samples": 2, "k": [1, 2]}],
    "checkpoint": {"every": 2},
}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(root / "small")  # fmt: skip
    vocabulary = {word: index for index, word in enumerate(["<unk>", "</s>", "a", "b", "c", "user"])}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(root / "small")
    LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(root / "base")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(root / "base")
    return root


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_verl.py")} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture
def train(tmp_path: Path, models_dir: Path, fake_python: Path):
    """train(play, **sections) -> (exit code, events): one run of SPEC with these sections."""
    data = {"train": tmp_path / "train.jsonl", "test": tmp_path / "test.jsonl"}
    prompts = ["a", "b", "a b", "c " * 20, "b a"]
    data["train"].write_text("".join(json.dumps({"prompt": one, "answer": "x"}) + "\n" for one in prompts))
    data["test"].write_text("".join(json.dumps({"prompt": one, "answer": "y"}) + "\n" for one in ["a", "b", "c"]))

    def start(play: dict[str, Any], *, stop=lambda: False, resume: Path | None = None, **sections: Any):
        out = io.StringIO()
        folders = Folders(run=tmp_path / "run", cache=tmp_path, models=models_dir, model=None, data=data)
        code = run_verl(
            JobSpec.model_validate({**SPEC, **sections}), folders, EventStream(out), stop, python=fake_python,
            resume=resume, prune_checkpoints=True, permits=NOTHING,
            environ={**os.environ, "FAKE_VERL": json.dumps(play)},
        )  # fmt: skip
        return code, [parse_event(line) for line in out.getvalue().splitlines()]

    return start


def told(events: list[Event]) -> list[tuple[str, int | None]]:
    return [(event.type, getattr(event, "step", None)) for event in events if event.type not in ("log", "started")]


def test_a_run_from_its_files_to_its_last_event(train, tmp_path: Path):
    code, events = train({"steps": [1, 2, 3]})
    assert code == EXIT_DONE
    assert told(events) == [
        ("eval", 0), ("step", 1), ("step", 2), ("eval", 2), ("checkpoint", 2), ("step", 3), ("eval", 3),
        ("checkpoint", 3), ("done", 3),
    ]  # fmt: skip
    started = next(event for event in events if event.type == "started")
    assert (started.prompts, started.prompts_dropped, started.steps) == (4, 1, 3)
    assert started.parameters > 0
    step = next(event for event in events if event.type == "step")
    assert 0 < step.metrics.pop("perf/finished_at") <= time.time()
    assert step.metrics == {
        "entropy/policy": 1.5, "policy/loss": 0.1, "policy/grad_norm": 2.0, "policy/kl_ref": None,
        "perf/step_seconds": 9.0, "perf/update_seconds": 3.5, "reward/mean": 0.25, "progress/prompts": 2,
        "group/mixed": 0.25,
    }  # fmt: skip
    evaluation = next(event for event in events if event.type == "eval")
    assert evaluation.metrics["eval/test/pass_at_k/1"] == 0.5
    assert evaluation.metrics["eval/test/pass_at_k/2"] == 1.0
    assert evaluation.metrics["eval/test/problems"] == 3
    assert {event.code for event in events if event.type == "log"} == {"prompts_dropped", "backend_verl_differs"}
    train_rows = pq.read_table(tmp_path / "run/verl/train.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in train_rows] == [1, 2, 3, 5]
    # Two steps of two prompts in each pass over four.
    assert "trainer.total_epochs=3" in (tmp_path / "run/verl/overrides.txt").read_text().splitlines()
    assert JobSpec.model_validate_json((tmp_path / "run/verl/spec.json").read_text()).backend == "verl"


def test_a_checkpoint_is_a_model_and_is_resumed_from(train, tmp_path: Path):
    code, events = train({"steps": [1, 2], "code": 1})
    assert code == EXIT_INFRASTRUCTURE_ERROR
    failed = events[-1]
    assert (failed.type, failed.kind, failed.code, failed.step) == ("failed", "infrastructure", "verl_failed", 2)
    assert failed.evidence == ["hello from verl"]
    folder = checkpoints.latest(tmp_path / "run/checkpoints")
    assert folder == tmp_path / "run/checkpoints/global_step_2"
    assert (folder / "model/model.safetensors").read_bytes() == b"weights"
    written = next(event for event in events if event.type == "checkpoint")
    assert (tmp_path / "run" / written.path) == folder
    assert written.bytes >= len(b"shard" + b"weights")

    code, events = train({"steps": [3]}, resume=folder)
    assert code == EXIT_DONE
    assert told(events) == [("step", 3), ("eval", 3), ("checkpoint", 3), ("done", 3)]
    assert next(event for event in events if event.type == "step").metrics["group/mixed"] == 0.75
    assert next(event for event in events if event.type == "started").resumed_from == 2
    assert f"trainer.resume_from_path='{folder}'" in (tmp_path / "run/verl/overrides.txt").read_text()

    (folder / "actor/model_world_size_1_rank_0.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="another size"):
        checkpoints.step_of(folder)


def test_asked_to_stop_it_ends_verl_and_says_where_to_go_on(train, tmp_path: Path):
    metrics = tmp_path / "run/verl/metrics.jsonl"
    code, events = train(
        {"steps": [1, 2], "hang": True},
        stop=lambda: (tmp_path / "run/checkpoints/global_step_2/asym-manifest.json").exists(),
    )
    assert code == EXIT_STOPPED
    assert told(events)[-1] == ("stopped", 2)
    assert metrics.read_bytes().count(b"\n") == 3


def test_an_end_before_the_last_step_is_no_success(train):
    code, events = train({"steps": [1, 2]})
    assert code == EXIT_INFRASTRUCTURE_ERROR
    assert "exit code 0 after step 2 of 3" in events[-1].message


@pytest.mark.parametrize(
    ("sections", "play", "code", "says"),
    [
        ({"seed": 2**40, "optim": {"prompts_per_step": 2, "warmup_steps": 3}}, {}, "backend_verl_cannot",
         "optim.warmup_steps: .*; seed|seed: .*; optim.warmup_steps"),
        ({}, {"lacks": ["ray", "vllm"]}, "verl_not_installed", r"lacks ray, vllm: .*asym-core\[verl\]"),
        ({}, {"version": "0.8.0"}, "verl_not_installed", "has verl 0.8.0"),
        ({"optim": {"prompts_per_step": 5}}, {}, "too_few_prompts", "4 usable prompts"),
        ({"model": {"id": "path/base"}}, {}, "backend_verl_cannot", "no chat template"),
        ({"reward": {"kind": "numeric"}}, {}, "answers_unverifiable", "can be matched by no response"),
        ({"data": {"train": "elsewhere"}}, {}, "data_not_found", "elsewhere"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_starts(train, tmp_path: Path, sections, play, code, says):
    with pytest.raises(RunError, match=says) as caught:
        train(play, **sections)
    assert caught.value.code == code
    assert not (tmp_path / "run/verl/verl.log").exists()


def test_this_environment_has_no_vllm(tmp_path: Path):
    with pytest.raises(RunError, match=r"lacks .*vllm"):
        check(Path(sys.executable), os.environ)
    with pytest.raises(RunError, match="cannot be run"):
        check(tmp_path / "nowhere", os.environ)
