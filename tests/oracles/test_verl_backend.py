"""What verl 0.9.1 calls of ours and what we read of verl's, through verl's own code: the advantage estimator, the data
set, the reward manager, the names of its metrics, its file logger."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainer.advantages import advantages
from trainer.backends.verl import group_log
from trainer.backends.verl.data import write_parquet
from trainer.backends.verl.following import Line, _new_lines
from trainer.backends.verl.metrics import ABORTED, REWARD, TABLE, step_metrics
from trainer.backends.verl.names import ADVANTAGE_FIELDS
from trainer.group_metrics import group_metrics
from trainer.prompts import build_prompts
from trainer.spec import JobSpec
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.dataset import Message, Problem
from trainer.spec.metric_keys import is_known
from trainer.spec.presets import PRESETS

# What verl and Ray do on import, and datasets on reading a file.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def job(**sections: Any) -> JobSpec:
    base = {
        "name": "x",
        "backend": "verl",
        "model": {"id": "hf/a/b"},
        "data": {"train": "t"},
        "reward": {"kind": "numeric"},
    }
    return JobSpec.model_validate({**base, **sections})


class TestEstimator:
    @pytest.fixture(autouse=True)
    def _group_log(self, tmp_path: Path) -> None:
        self.group_log = tmp_path / "groups.jsonl"

    def batch(self, rewards: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """verl's padded batch: a reward on the last token of each response, uids that are no numbers."""
        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(1, 7, (len(rewards),), generator=generator)
        mask = (torch.arange(7) < lengths[:, None]).long()
        token_rewards = torch.zeros(len(rewards), 7)
        token_rewards[torch.arange(len(rewards)), lengths - 1] = rewards
        return token_rewards, mask, np.array([f"uid-{one * 7 % 23}" for one in ids.tolist()], dtype=object)

    def theirs(self, verl_module, spec: AlgorithmSpec, rewards: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        from omegaconf import OmegaConf

        import trainer.backends.verl.estimator  # noqa: F401 - as verl's plugin mechanism does

        token_rewards, mask, uids = self.batch(rewards, ids)
        given = {name: getattr(spec, name) for name in ADVANTAGE_FIELDS}
        config = OmegaConf.create({"asym": {**given, "group_log": str(self.group_log)}, "gamma": 1.0})
        data = verl_module("verl.protocol").DataProto.from_dict(
            {"token_level_rewards": token_rewards, "response_mask": mask}, {"uid": uids}
        )
        done = verl_module("verl.trainer.ppo.ray_trainer").compute_advantage(data, "asym", config=config)
        assert torch.equal(done.batch["advantages"], done.batch["returns"])
        found = done.batch["advantages"]
        assert (found[mask == 0] == 0).all()
        per_rollout = found[:, 0]
        assert torch.equal(found, per_rollout[:, None] * mask)
        return per_rollout

    @pytest.mark.parametrize("preset", PRESETS)
    def test_verl_trains_on_our_advantages(self, preset: str, verl_module, same) -> None:
        spec = AlgorithmSpec(preset=preset)
        generator = torch.Generator().manual_seed(3)
        # Twelve mixed or uniform groups of 8, their rollouts in any order.
        ids = torch.arange(12).repeat(8)[torch.randperm(96, generator=generator)]
        rewards = (torch.rand(96, generator=generator) < ids / 11).float()
        ours = advantages(spec, rewards, ids, step=1)
        assert ours.unique().numel() > 1
        same(self.theirs(verl_module, spec, rewards, ids), ours, 0.0)
        assert group_log.read(self.group_log, 1) == group_metrics(rewards, rewards == 1, ids, ours)
        assert group_log.read(self.group_log, 2) == {}

    def test_rollouts_that_verl_made_up_are_not_counted(self, verl_module, monkeypatch: pytest.MonkeyPatch) -> None:
        rewards, ids = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 1])
        token_rewards, mask, uids = self.batch(rewards, ids)
        mask[2:] = 0
        monkeypatch.setattr(self, "batch", lambda *_: (token_rewards, mask, uids))
        spec = AlgorithmSpec(preset="reinforce")
        assert self.theirs(verl_module, spec, rewards, ids).tolist() == [1.0, -1.0, 0.0, 0.0]
        counted = group_log.read(self.group_log, 1)
        assert (counted["group/mixed"], counted["group/histogram"]) == (1.0, [0, 1, 0])

    def test_graded_rewards_and_a_threshold(self, verl_module, same) -> None:
        spec = AlgorithmSpec(preset="asymgrpo", success_threshold=0.5, pos_scale=0.3, neg_scale=2.0)
        generator = torch.Generator().manual_seed(4)
        rewards, ids = torch.rand(40, generator=generator), torch.arange(5).repeat_interleave(8)
        same(self.theirs(verl_module, spec, rewards, ids), advantages(spec, rewards, ids, step=1), 0.0)

    def test_a_reward_that_is_not_binary_is_refused(self, verl_module) -> None:
        with pytest.raises(ValueError, match="must be 0 or 1"):
            self.theirs(verl_module, AlgorithmSpec(), torch.tensor([0.5, 1.0]), torch.tensor([0, 0]))

    def test_verl_finds_the_estimator_by_its_entry_point(self, verl_module, tmp_path: Path) -> None:
        verl_module("verl")
        info = tmp_path / "asym_core_as_installed-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: asym-core-as-installed\nVersion: 0\n")
        root = Path(__file__).parents[2]
        [(name, module)] = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"][
            "verl.plugins"
        ].items()
        (info / "entry_points.txt").write_text(f"[verl.plugins]\n{name} = {module}\n")
        code = "import verl.trainer.ppo.core_algos as c; print(c.get_adv_estimator_fn('asym').__module__)"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == "trainer.backends.verl.estimator", done.stderr


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = [
        "<unk>",
        "<s>",
        "</s>",
        "system",
        "user",
        "assistant",
        "What",
        "is",
        "1",
        "+",
        "2",
        "Sum",
        ":",
        "Be",
        "brief",
    ]
    model = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    made.chat_template = (
        "<s> {% for m in messages %}{{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    return made


PROBLEMS = [
    Problem(1, "1 + 1", "2"),
    Problem(
        5,
        [Message("system", "Be"), Message("user", "What is"), Message("assistant", "1"), Message("user", "2 + 2")],
        "4",
        "exact",
        {"ignore_case": True},
        {"level": 3, "tags": ["a"]},
    ),
]


def rows(verl_module, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, spec: JobSpec) -> Any:
    """The problems as verl's own data set gives them."""
    from omegaconf import OmegaConf

    file = tmp_path / "train.parquet"
    assert write_parquet(file, PROBLEMS, "train", spec.data) == len(PROBLEMS)
    config = OmegaConf.create({
        "cache_dir": str(tmp_path / "cache"), "max_prompt_length": 100, "truncation": "error",
        "filter_overlong_prompts": False,
    })  # fmt: skip
    return verl_module("verl.utils.dataset.rl_dataset").RLHFDataset(str(file), tokenizer, config)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.mark.usefixtures("offline")
class TestData:
    def test_verl_reads_the_prompts_that_we_would_train_on(self, verl_module, tmp_path, tokenizer) -> None:
        spec = job(data={"train": "t", "system_prompt": "Be brief", "prompt_template": "Sum : {prompt}"})
        dataset = rows(verl_module, tmp_path, tokenizer, spec)
        ours = build_prompts(
            PROBLEMS, tokenizer, max_prompt_tokens=100, system_prompt="Be brief", prompt_template="Sum : {prompt}"
        )
        builder = verl_module("verl.utils.tokenizer.continuous_token").ContinuousTokenBuilder(tokenizer)
        assert len(dataset) == len(ours) == 2
        for mine, row in zip(ours.prompts, (dataset[0], dataset[1]), strict=True):
            # What its agent loop asks the engine with.
            theirs = builder.build_initial_tokens(row["raw_prompt"])
            assert tuple(theirs) == mine.token_ids
            assert 0 not in theirs
            assert row["reward_model"] == {"ground_truth": mine.answer}
            assert row["index"] == row["extra_info"]["index"] == mine.row
            assert row["data_source"] == "train"

    def test_the_columns_and_their_types(self, tmp_path: Path) -> None:
        import pandas as pd

        write_parquet(tmp_path / "x.parquet", PROBLEMS, "bench", job().data)
        frame = pd.read_parquet(tmp_path / "x.parquet")
        assert list(frame.columns) == ["prompt", "data_source", "reward_model", "extra_info"]
        assert frame["extra_info"][1] == {
            "index": 5, "question": "2 + 2", "kind": "exact", "options": '{"ignore_case": true}',
            "metadata": '{"level": 3, "tags": ["a"]}',
        }  # fmt: skip
        assert [message["role"] for message in frame["prompt"][1]] == ["system", "user", "assistant", "user"]


@pytest.mark.usefixtures("offline")
class TestReward:
    def test_verls_reward_manager_gets_our_verdicts(self, verl_module, tmp_path, tokenizer) -> None:
        from omegaconf import OmegaConf

        spec = job()
        (tmp_path / "spec.json").write_text(spec.model_dump_json())
        section = {
            "path": "pkg://trainer.backends.verl.reward", "name": "compute_score",
            "reward_kwargs": {"spec_file": str(tmp_path / "spec.json")},
        }  # fmt: skip
        config = OmegaConf.create({"reward": {"custom_reward_function": section}})
        function = verl_module("verl.trainer.ppo.reward").get_custom_reward_fn(config)
        dataset = rows(verl_module, tmp_path, tokenizer, spec)
        protocol = verl_module("verl.protocol").DataProto
        manager = verl_module("verl.experimental.reward_loop.reward_manager.naive").NaiveRewardManager

        async def judged(index: int, response: str) -> dict[str, Any]:
            ids = torch.tensor([tokenizer(response, add_special_tokens=False)["input_ids"]])
            mask = torch.ones(1, 3 + ids.shape[1], dtype=torch.long)
            item = {
                key: np.array([dataset[index][key]], dtype=object)
                for key in ("data_source", "reward_model", "extra_info")
            }
            data = protocol.from_dict({"responses": ids, "attention_mask": mask}, item)
            return await manager(config, tokenizer, function).run_single(data)

        async def both() -> list[dict[str, Any]]:
            return [await judged(0, "Sum : 1 + 2"), await judged(1, "2")]

        first, second = asyncio.run(both())
        # numeric, the job's kind: the last number is the answer; exact, the row's own: "2" is not "4".
        assert first == {
            "reward_score": 1.0,
            "reward_extra_info": {"score": 1.0, "acc": 1.0, "benchmark": "train", "row": "1", "error": ""},
        }
        assert second["reward_score"] == 0.0

    def test_right_wrong_and_errors(self, tmp_path: Path) -> None:
        from trainer.backends.verl.reward import compute_score

        spec = job(reward={"kind": "math"}, algorithm={"preset": "grpo"})
        (tmp_path / "spec.json").write_text(spec.model_dump_json())

        def score(response: str, answer: str, **extra: Any) -> dict[str, Any]:
            told = {"index": 7, "question": "q", "kind": None, "options": None, "metadata": None, **extra}
            return compute_score("bench", response, answer, told, spec_file=str(tmp_path / "spec.json"))

        assert score("so \\boxed{1/2}", "0.5") == {
            "score": 1.0,
            "acc": 1.0,
            "benchmark": "bench",
            "row": "7",
            "error": "",
        }
        assert score("so \\boxed{1/3}", "0.5")["score"] == 0.0
        assert score("ABC", "abc", kind="exact", options=json.dumps({"ignore_case": True}))["acc"] == 1.0
        assert score("x" * 200_000, "1")["error"] == "too_long"

    def test_the_reward_module_brings_no_torch_into_the_workers(self) -> None:
        large = ("torch", "verl", "transformers")
        code = f"import sys, trainer.backends.verl.reward; print([name for name in {large} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestMetrics:
    def measured(self, verl_module) -> set[str]:
        """Every name that verl's own functions give for a step, and those that its trainer and workers spell out."""
        width = {"prompts": torch.ones(2, 3), "responses": torch.ones(2, 4)}
        data = verl_module("verl.protocol").DataProto.from_dict(
            {
                **width, "response_mask": torch.ones(2, 4), "attention_mask": torch.ones(2, 7),
                "prompt_length": torch.full((2,), 3.0), "response_length": torch.full((2,), 4.0),
                "token_level_scores": torch.rand(2, 4), "token_level_rewards": torch.rand(2, 4),
                "advantages": torch.rand(2, 4), "returns": torch.rand(2, 4),
            },
            meta_info={"global_token_num": [7, 7]},
        )  # fmt: skip
        functions = verl_module("verl.trainer.ppo.metric_utils")
        [root] = verl_module("verl").__path__
        trainer = Path(root, "trainer/ppo/v1/trainer_base.py").read_text()
        stages = [name for name in ("gen", "old_log_prob", "ref", "adv", "update_actor", "step")
                  if f'marked_timer("{name}"' in trainer]  # fmt: skip
        timing = dict.fromkeys(stages, 1.0)
        found = {
            **functions.compute_data_metrics(data, use_critic=False),
            **functions.compute_timing_metrics(data, timing),
            **functions.compute_throughout_metrics(data, timing, 2),
        }
        worker = Path(root, "workers/engine_workers.py").read_text()
        loss = inspect.getsource(verl_module("verl.workers.utils.losses").ppo_loss)
        # Whatever comes back of a worker gets the prefix (py_functional.rename_dict).
        assert 'rename_dict(output["metrics"], "actor/")' in trainer
        spelled = {"actor/loss", "actor/grad_norm", "actor/lr"} if 'final_metrics["loss"]' in worker else set()
        spelled -= {f"actor/{name}" for name in ("grad_norm", "lr") if f'final_metrics["{name}"]' not in worker}
        spelled |= {"actor/kl_loss"} if 'metrics["kl_loss"]' in loss else set()
        spelled |= {"actor/entropy"} if '"actor/entropy": entropy_agg' in trainer else set()
        spelled |= {"training/global_step"} if '"training/global_step": global_steps' in trainer else set()
        return set(found) | spelled

    @pytest.mark.parametrize("name", sorted({name for row in TABLE for name in row.names} | {REWARD, ABORTED}))
    def test_verl_has_a_metric_of_this_name(self, name: str, verl_module) -> None:
        assert name in self.measured(verl_module)

    @pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
    def test_it_is_one_of_our_keys(self, row) -> None:
        assert is_known(row.key)

    def test_its_log_becomes_ours(self, verl_module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "metrics.jsonl"
        monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(file))
        logger = verl_module("verl.utils.tracking").FileLogger("asym", "run")
        lines = _new_lines(file)
        assert next(lines) == []
        logger.log({"actor/loss": np.float32(0.25), "critic/score/mean": float("nan"), ABORTED: 0.0}, 3)
        [line] = next(lines)
        assert line == Line(3, {"actor/loss": 0.25, "critic/score/mean": None, ABORTED: 0.0})
        assert step_metrics(job(), line.theirs, 3) == {
            "policy/loss": 0.25,
            "reward/mean": None,
            "progress/prompts": 384,
        }
        with file.open("ab") as half:
            half.write(b'{"step": 4, ')
        assert next(lines) == []
        logger.finish()
