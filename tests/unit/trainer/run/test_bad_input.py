"""Data and models that give a run nothing to work with: each a clear error, or counted; never a hang, never NaN."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from trainer.models.tiny_arith import tiny_arith_tokenizer
from trainer.spec.events import EXIT_USER_ERROR

EOS = 2
TOKENS = 18


def save_model(folder: Path, eos_logit: float, pad: str = "<pad>") -> None:
    """A GPT-2 whose every token is drawn from one distribution: EOS with the logit given, the others with 0."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=TOKENS,
            n_positions=64,
            n_embd=8,
            n_layer=1,
            n_head=2,
            bos_token_id=1,
            eos_token_id=EOS,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        # The last norm gives its bias whatever comes in, and the head reads one component of that.
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[EOS, 0] = eos_logit
    model.save_pretrained(folder)
    tokenizer = tiny_arith_tokenizer()
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(folder)


@pytest.fixture
def train(run: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """train(rows, **sections): a run of two steps over these rows, whose model is tmp_path/models/fixed."""

    def train(rows: list[str] | None = None, **sections: Any) -> Any:
        file = tmp_path / "data.jsonl"
        prompts = [f"{a}+{b}=" for a in range(4) for b in range(2)] if rows is None else rows
        file.write_text("\n".join(json.dumps({"prompt": prompt, "answer": "7"}) for prompt in prompts))
        spec = {
            "name": "a run",
            "model": {"id": "path/fixed"},
            "data": {"train": str(file)},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "optim": {"lr": 1e-3, "prompts_per_step": 4},
            "train": {"steps": 2},
            "eval": [{"name": "again", "data": str(file), "samples": 2, "k": [1, 2], "temperature": 1.0}],
            "diagnostics": {"every": 1},
        }
        run.start(spec | sections, "--models-dir", str(tmp_path / "models"))
        for row in run.metrics().values():
            for key, value in row.items():
                assert not isinstance(value, float) or math.isfinite(value), key
        return run

    return train


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models" / "fixed"


ALGORITHMS = [
    {"preset": "asymgrpo"},
    {"preset": "grpo", "kl_coef": 0.1, "entropy_coef": 0.01},
    {"preset": "dapo"},
    {"preset": "dr_grpo", "mask_truncated": True},
    {"preset": "reinforce", "top_entropy_fraction": 0.2, "importance_correction": "token_truncated"},
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm["preset"])
def test_responses_that_end_at_once_are_counted(train: Callable[..., Any], models: Path, algorithm: dict[str, Any]):
    save_model(models, eos_logit=100.0)
    run = train(algorithm=algorithm)
    assert run.codes == [0], run.log
    rows = run.metrics()
    for step in (1, 2):
        # One token, the EOS, and no text.
        assert rows[step]["rollout/length_mean"] == rows[step]["rollout/length_max"] == 1
        assert rows[step]["rollout/truncated_fraction"] == 0
        assert rows[step]["group/none_solved"] == 1
        # A group that is all wrong has no advantage, unless there is no baseline.
        assert rows[step]["group/effective"] == (algorithm["preset"] == "reinforce")
        assert rows[step]["entropy/informative"] is None
        assert rows[step]["entropy/spurious"] == pytest.approx(0, abs=1e-6)
    for step in (0, 2):
        assert rows[step]["eval/again/pass_at_k/2"] == 0
        assert rows[step]["eval/again/length_mean"] == 1
    completions = [
        rollout.completion for event in run.events[0] if event.type == "rollouts" for rollout in event.rollouts
    ]
    assert set(completions) == {""}


def test_some_empty_responses_of_a_group_are_like_any_others(train: Callable[..., Any], models: Path):
    save_model(models, eos_logit=math.log(TOKENS - 1))  # Every second token ends a response.
    run = train()
    assert run.codes == [0], run.log
    for step in (1, 2):
        assert 1 < run.metrics()[step]["rollout/length_mean"] < 4
        assert run.metrics()[step]["rollout/logprob_diff_max"] < 1e-5


def test_dynamic_sampling_gives_up_on_groups_that_stay_empty(train: Callable[..., Any], models: Path):
    save_model(models, eos_logit=100.0)
    run = train(algorithm={"preset": "grpo", "dynamic_sampling_rounds": 2})
    assert run.codes == [0], run.log
    assert run.metrics()[1]["rollout/sampling_rounds"] == 3
    assert run.metrics()[1]["rollout/discarded_rollouts"] == 2 * 4 * 4


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm["preset"])
def test_responses_that_never_end_are_counted_and_may_all_be_masked(
    train: Callable[..., Any], models: Path, algorithm: dict[str, Any]
):
    save_model(models, eos_logit=-100.0)
    run = train(algorithm={**algorithm, "mask_truncated": True})
    assert run.codes == [0], run.log
    for step in (1, 2):
        assert run.metrics()[step]["rollout/truncated_fraction"] == 1
        assert run.metrics()[step]["rollout/length_mean"] == 4
        assert run.metrics()[step]["policy/grad_norm"] == 0


def test_a_pad_token_that_is_the_eos_changes_nothing(train: Callable[..., Any], models: Path, tmp_path: Path):
    # Prompts and responses of several lengths, so that there is padding on either side.
    rows = ["1+1=", "12+13=", "7-7=", "100-99="]
    found = []
    for pad in ("<pad>", "<eos>"):
        save_model(models, eos_logit=1.0, pad=pad)
        fresh = train(rows)
        assert fresh.codes[-1] == 0, fresh.log
        found.append((fresh.metrics(), (fresh.checkpoint(2) / "model" / "model.safetensors").read_bytes()))
        (fresh.folder / "checkpoints").rename(tmp_path / f"checkpoints {pad.strip('<>')}")
    assert found[0] == found[1]
    assert found[0][0][1]["rollout/length_mean"] > 1


def test_prompts_of_special_tokens_are_dropped_and_counted(train: Callable[..., Any], models: Path):
    save_model(models, eos_logit=1.0)
    run = train(["1+1=", "<eos>", "<bos><pad>", "2+2="])
    assert run.codes == [0], run.log
    started = next(event for event in run.events[0] if event.type == "started")
    assert (started.prompts, started.prompts_dropped) == (2, 2)
    warnings = [event for event in run.events[0] if event.type == "log" and event.code == "prompts_dropped"]
    assert all(event.data == {"reason": "special_only", "count": 2} for event in warnings)
    assert "rows 2, 3" in warnings[0].message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["<eos>", "<pad><bos>"], "special only"),
        (["1+1=", "2+2="], "too long (limit 3 tokens)"),
        (["<eos>", "1+1="], "too long (limit 3 tokens)"),
    ],
    ids=["special", "too long", "both"],
)
def test_data_without_a_usable_prompt_ends_the_run_and_says_why(
    train: Callable[..., Any], models: Path, rows: list[str], said: str
):
    save_model(models, eos_logit=1.0)
    run = train(rows, data={"train": str(models.parents[1] / "data.jsonl"), "max_prompt_tokens": 3})
    assert run.codes == [EXIT_USER_ERROR]
    *logged, failed = run.events[0]
    assert (failed.kind, failed.code) == ("user", "no_prompts")
    assert "2 dropped" in failed.message
    assert any(said in event.message for event in logged)


def test_a_benchmark_without_a_usable_prompt_ends_the_run_before_it_trains(
    train: Callable[..., Any], models: Path, tmp_path: Path
):
    save_model(models, eos_logit=1.0)
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "1" * 600 + "=", "answer": "7"}))
    run = train(eval=[{"name": "long", "data": str(long)}])
    assert run.codes == [EXIT_USER_ERROR]
    assert [event.type for event in run.events[0]] == ["log", "failed"]
    assert run.events[0][-1].code == "no_prompts"
    assert "long.jsonl" in run.events[0][-1].message
