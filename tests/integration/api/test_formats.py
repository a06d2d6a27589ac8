"""What a checkpoint can be had as, loaded by transformers and by peft: the logits are those of the trained policy."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from trainer import checkpoint
from trainer.models import load_lora_policy, load_policy, position_ids
from trainer.models.tiny_arith import tiny_arith_tokenizer
from trainer.spec import events as trainer_events
from trainer.spec.model import LoraSpec

IDS = torch.tensor([[4, 5, 13, 6, 16, 3]])
MASK = torch.ones_like(IDS)


@pytest.fixture
def settings(settings, tmp_path):
    (tmp_path / "models").mkdir()
    return settings.model_copy(update={"models_dir": tmp_path / "models"})


@pytest.fixture
def base(settings) -> Path:
    """path/small: a model in bfloat16 with tied head."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=20,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
        tie_word_embeddings=True,
        eos_token_id=[2, 7],
    )
    return saved(Qwen3ForCausalLM(config).to(torch.bfloat16), settings.models_dir / "small")


def saved(model, folder) -> Path:
    model.save_pretrained(folder)
    tiny_arith_tokenizer().save_pretrained(folder)
    return folder


def loaded(settings, model_id="path/small", model_dir=None):
    return load_policy(
        model_id, model_dir=model_dir, cache_dir=settings.models_cache, models_dir=settings.models_dir, device="cpu"
    )


def adapted(settings, model_id="path/small", model_dir=None):
    """A LoRA policy that has moved away from its base."""
    policy = load_lora_policy(
        model_id,
        LoraSpec(rank=3),
        0,
        adapter_dir=None,
        model_dir=model_dir,
        cache_dir=settings.models_cache,
        models_dir=settings.models_dir,
        device="cpu",
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


@torch.no_grad()
def logits(policy):
    return policy.hidden_states(IDS, MASK, position_ids(MASK)) @ policy.lm_head_weight.T


@pytest.fixture
def stored(member, make_job, start_run, settings):
    """stored(policy): written as the trainer writes it, and recorded; its job."""

    def store(policy):
        job = make_job(member)
        run = start_run(job["id"])
        folder = settings.artifacts / "jobs" / job["id"] / "attempts" / "1" / "checkpoints"
        written = checkpoint.write(folder, 2, save_model=policy.save_pretrained, optimizer={}, state={})
        run.record(
            trainer_events.Checkpoint(
                time=0.0,
                step=2,
                path="checkpoints/2",
                bytes=written.bytes,
                manifest_sha256=written.manifest_sha256,
                score=None,
            )
        )
        return job["id"], written.path

    return store


@pytest.fixture
def fetched(member, tmp_path):
    """fetched(job_id, format): the folder that the archive holds."""

    def fetch(job_id, wanted) -> Path:
        response = member.get(f"/jobs/{job_id}/checkpoints/2/download", params={"format": wanted})
        assert response.status_code == 200, response.text
        assert int(response.headers["content-length"]) == len(response.content)
        to = tmp_path / wanted
        with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
            tar.extractall(to, filter="data")
        return to / f"{job_id}-step2"

    return fetch


def whole(folder: Path):
    """As anybody loads it, the dtype its config says included."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.dtype is torch.float32
    return model.eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_full_weights_are_a_hugging_face_folder(base, settings, stored, fetched, member):
    policy = loaded(settings)
    job_id, _ = stored(policy)
    folder = fetched(job_id, "huggingface")
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"optimizer.safetensors", "state.json", "manifest.json"}
    close(whole(folder)(IDS).logits, logits(policy))
    assert AutoTokenizer.from_pretrained(folder)("12+34=")["input_ids"]
    refused = member.get(f"/jobs/{job_id}/checkpoints/2/download", params={"format": "adapter"})
    assert refused.status_code == 409
    assert "no LoRA adapter" in refused.json()["detail"]
    assert member.get(f"/jobs/{job_id}/checkpoints/2/download", params={"format": "gguf"}).status_code == 422


@torch.no_grad()
def test_an_adapter_is_had_alone_and_merged(base, settings, stored, fetched):
    policy = adapted(settings)
    expected = logits(policy)
    job_id, _ = stored(policy)
    alone = fetched(job_id, "adapter")
    assert {path.name for path in alone.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert "base.json" not in {path.name for path in alone.iterdir()}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    close(PeftModel.from_pretrained(model, alone).eval()(IDS).logits, expected)
    for wanted in ("huggingface", "merged"):
        folder = fetched(job_id, wanted)
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
        assert not {name for name in names if name.startswith(("adapter", "base"))}
        close(whole(folder)(IDS).logits, expected)
        assert whole(folder).generation_config.eos_token_id == [2, 7]


@torch.no_grad()
def test_layers_whose_weight_lies_the_other_way_and_an_adapter_over_another_jobs(settings, stored, fetched):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=2)
    saved(GPT2LMHeadModel(config), settings.models_dir / "turned")
    first = adapted(settings, "path/turned")
    job_id, path = stored(first)
    close(whole(fetched(job_id, "merged"))(IDS).logits, logits(first))
    # The base of the second adapter is the first one's checkpoint, which it keeps within.
    second = adapted(settings, f"job/{job_id}@2", path / "model")
    assert not torch.allclose(logits(second), logits(first), atol=1e-2)
    other_id, other_path = stored(second)
    assert (other_path / "model/base/adapter_config.json").is_file()
    close(whole(fetched(other_id, "merged"))(IDS).logits, logits(second))
    assert "base" not in {path.name for path in fetched(other_id, "adapter").iterdir()}


def test_an_adapter_is_not_merged_into_other_weights(base, settings, stored, member):
    job_id, _ = stored(adapted(settings))
    path = f"/jobs/{job_id}/checkpoints/2/download"
    torch.manual_seed(1)
    saved(Qwen3ForCausalLM(AutoModelForCausalLM.from_pretrained(base).config), base)
    other = member.get(path, params={"format": "merged"})
    assert other.status_code == 409
    assert "not those that the adapter was trained on" in other.json()["detail"]
    for file in base.iterdir():
        file.unlink()
    gone = member.get(path, params={"format": "merged"})
    assert gone.status_code == 409
    assert "not on the API's machine" in gone.json()["detail"]
    assert member.get(path, params={"format": "adapter"}).status_code == 200


def test_each_format_has_a_tag_of_its_own(base, settings, stored, member):
    job_id, path = stored(adapted(settings))
    digest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    tags = {}
    for wanted in (None, "huggingface", "adapter"):
        params = {} if wanted is None else {"format": wanted}
        url = f"/jobs/{job_id}/checkpoints/2/download"
        tags[wanted] = member.get(url, params=params).headers["etag"]
        again = member.get(url, params=params, headers={"If-None-Match": tags[wanted]})
        assert again.status_code == 304
    assert len(set(tags.values())) == 3
    assert digest in tags[None]
    assert json.loads((path / "model/adapter_config.json").read_text())["base_model_name_or_path"] == "path/small"
