"""How much a whole step computes, in tokens through the model and in passes: what is saved stays saved."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import trainer.loop
from trainer.event_stream import EventStream
from trainer.loop import Training, train_step
from trainer.run import Folders, open_training
from trainer.spec import JobSpec

PROMPTS, GROUP, NEW_TOKENS = 6, 4, 5
PROMPT_TOKENS = len("12+34=")


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, object]:
    rows = [{"prompt": f"{a}+{a + 11}=", "answer": "[0-4]$"} for a in range(10, 10 + PROMPTS)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "x",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": "train.jsonl"},
        "reward": {"kind": "regex"},
        "rollout": {"group_size": GROUP, "max_new_tokens": NEW_TOKENS},
        "optim": {"prompts_per_step": PROMPTS},
        "diagnostics": {"every": 0},
    }


@contextmanager
def opened(spec: dict[str, object], folder: Path, cache: Path) -> Iterator[Training]:
    folders = Folders(run=folder, cache=cache, models=None, model=None, data={"train.jsonl": folder / "train.jsonl"})
    events = EventStream(io.StringIO())
    with open_training(JobSpec.model_validate(spec), folders, events, resume=None, prune_checkpoints=True) as training:
        # An EOS that is never sampled: every response has as many tokens as it may.
        training.policy.eos_ids = frozenset({training.policy.vocab_size - 1})
        yield training


class Work:
    """Tokens through the model without gradients and with them, and its passes."""

    def __init__(self, training: Training) -> None:
        self.scored = self.trained = self.passes = 0
        self._engine = training.engine.counters
        self._sampled = 0
        training.policy.model.get_input_embeddings().register_forward_hook(self._embedded)
        generate = training.engine.generate

        def counted(*arguments: object, **keywords: object) -> object:
            before = (self.scored, self.passes)
            generations = generate(*arguments, **keywords)  # type: ignore[arg-type]
            self.scored, self.passes = before  # the engine counts its own
            return generations

        training.engine.generate = counted  # type: ignore[method-assign,assignment]

    def _embedded(self, module: torch.nn.Module, arguments: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.passes += 1
        if torch.is_grad_enabled():
            self.trained += arguments[0].numel()
        else:
            self.scored += arguments[0].numel()


def mixed_and_uniform(training: Training, metrics: dict[str, object]) -> tuple[int, int]:
    mixed = round(float(metrics["group/mixed"]) * PROMPTS)  # type: ignore[arg-type]
    return mixed, PROMPTS - mixed


GROUP_TOKENS = PROMPT_TOKENS + GROUP * (NEW_TOKENS - 1)
"""A group in a training pass: its prompt once, each response but for its last token."""


def test_an_on_policy_step_computes_every_token_once(spec: dict[str, object], tmp_path: Path, model_cache: Path):
    with opened(spec, tmp_path, model_cache) as training:
        work = Work(training)
        metrics = train_step(training, 1)
        mixed, uniform = mixed_and_uniform(training, metrics)
        assert mixed > 0
        assert work.trained == mixed * GROUP_TOKENS
        assert work.scored == uniform * GROUP_TOKENS
        counters = training.engine.counters
        assert (counters.prefill_passes, counters.prefill_tokens) == (1, PROMPTS * PROMPT_TOKENS)
        assert counters.decode_passes == NEW_TOKENS - 1
        assert counters.generated_tokens == PROMPTS * GROUP * NEW_TOKENS


def test_a_second_update_needs_the_scores_of_its_rollouts(spec: dict[str, object], tmp_path: Path, model_cache: Path):
    spec["optim"] = {"prompts_per_step": PROMPTS, "prompts_per_update": PROMPTS // 2}
    spec["algorithm"] = {"preset": "reinforce"}  # every group has a gradient
    with opened(spec, tmp_path, model_cache) as training:
        work = Work(training)
        train_step(training, 1)
        assert work.trained == PROMPTS * GROUP_TOKENS
        assert work.scored == PROMPTS // 2 * GROUP_TOKENS


def test_the_realised_changes_cost_one_pass_over_the_step(spec: dict[str, object], tmp_path: Path, model_cache: Path):
    spec["diagnostics"] = {"every": 1}
    spec["algorithm"] = {"preset": "reinforce"}
    with opened(spec, tmp_path, model_cache) as training:
        work = Work(training)
        train_step(training, 1)
        assert (work.trained, work.scored) == (PROMPTS * GROUP_TOKENS, PROMPTS * GROUP_TOKENS)
        # Prompts and responses of the update, and the same of the diagnostics.
        assert work.passes == 4


class Casts(TorchDispatchMode):
    """How often each weight is copied in bfloat16."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.counts = dict.fromkeys(weights, 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten._to_copy.default and kwargs["dtype"] == torch.bfloat16:
            pointer = args[0].data_ptr()
            if pointer in self.counts:
                self.counts[pointer] += 1
        return func(*args, **(kwargs or {}))


def test_an_update_rounds_each_weight_once_for_all_its_passes(
    spec: dict[str, object], tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    spec["model"] = {"id": "builtin/tiny-arith", "dtype": "bfloat16"}
    spec["algorithm"] = {"preset": "reinforce"}
    spec["optim"] = {"prompts_per_step": PROMPTS, "max_tokens_per_micro_batch": GROUP_TOKENS}
    with opened(spec, tmp_path, model_cache) as training:
        layers = [module for module in training.policy.backbone.modules() if isinstance(module, torch.nn.Linear)]
        casts = Casts({layer.weight.data_ptr() for layer in layers})
        work, update = Work(training), trainer.loop.update

        def watched(*arguments: object, **keywords: object) -> object:
            with casts:
                return update(*arguments, **keywords)  # type: ignore[arg-type]

        monkeypatch.setattr(trainer.loop, "update", watched)
        train_step(training, 1)
    assert work.passes >= 2 * PROMPTS
    assert set(casts.counts.values()) == {1}
