"""What a saved model gives, and every reason for which one is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PhiConfig,
    PhiForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from trainer.models import ModelError, Policy, position_ids
from trainer.models.folder import load_folder
from trainer.models.tiny_arith import tiny_arith_tokenizer

CPU = torch.device("cpu")


def load(folder: Path) -> Policy:
    return load_folder("path/small", folder, CPU)


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_policy_offers_what_training_needs(saved_model: Path) -> None:
    policy = load(saved_model)
    assert policy.eos_ids == {2, 7}  # From the generation config and the tokenizer together.
    assert policy.pad_id == 0
    assert not policy.has_chat_template
    assert policy.vocab_size == 20
    assert policy.device == CPU
    assert not policy.model.training
    assert policy.model.config._attn_implementation == "sdpa"
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    assert policy.parameters == sum(w.numel() for w in load_file(saved_model / "model.safetensors").values())


def test_hidden_states_times_the_head_are_the_logits(saved_model: Path) -> None:
    policy = load(saved_model)
    ids = torch.randint(3, 18, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    logits = policy.model(input_ids=ids, attention_mask=mask).logits
    hidden = policy.hidden_states(ids, mask, position_ids(mask))
    assert hidden.shape == (3, 9, 32)
    torch.testing.assert_close(hidden @ policy.lm_head_weight.T, logits, rtol=0, atol=1e-5)
    hidden.sum().backward()
    assert all(p.grad is not None for name, p in policy.model.named_parameters() if "lm_head" not in name)


@torch.no_grad()
@pytest.mark.parametrize("left", [0, 2, 5])
def test_padding_on_either_side_changes_nothing(saved_model: Path, left: int) -> None:
    policy = load(saved_model)
    ids = torch.tensor([[4, 5, 13, 6, 16]])
    plain = policy.hidden_states(ids, torch.ones_like(ids), position_ids(torch.ones_like(ids)))
    padded = torch.nn.functional.pad(ids, (left, 5 - left), value=policy.pad_id)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (left, 5 - left))
    hidden = policy.hidden_states(padded, mask, position_ids(mask))[:, left : left + 5]
    torch.testing.assert_close(hidden, plain, rtol=0, atol=1e-5)


def test_positions_count_the_unmasked_tokens() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2], [0, 1, 2, 3]]


def test_saved_and_loaded_again_it_is_the_same(saved_model: Path, tmp_path: Path) -> None:
    policy = load(saved_model)
    with torch.no_grad():
        policy.lm_head_weight.add_(1e-4)
    policy.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    weights, expected = again.model.state_dict(), policy.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert again.eos_ids == policy.eos_ids
    assert again.pad_id == policy.pad_id
    assert again.tokenizer("12+34=")["input_ids"] == policy.tokenizer("12+34=")["input_ids"]
    assert not [path for path in (tmp_path / "saved").iterdir() if path.suffix in {".bin", ".pt"}]


def test_half_precision_weights_become_float32(saved_model: Path) -> None:
    weights = saved_model / "model.safetensors"
    save_file({name: w.bfloat16() for name, w in load_file(weights).items()}, weights, {"format": "pt"})
    edit(saved_model / "config.json", dtype="bfloat16")
    assert {parameter.dtype for parameter in load(saved_model).model.parameters()} == {torch.float32}


def test_a_chat_template_is_noticed(saved_model: Path) -> None:
    (saved_model / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    assert load(saved_model).has_chat_template


def test_a_model_without_pad_token_pads_with_an_eos(saved_model: Path) -> None:
    edit(saved_model / "tokenizer_config.json", pad_token=None)
    assert load(saved_model).pad_id == 2


def _remove(name: str) -> object:
    return lambda folder: (folder / name).unlink()


def _config(**changes: object) -> object:
    return lambda folder: edit(folder / "config.json", **changes)


def _weights(change: object) -> object:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        weights = load_file(path)
        change(weights)
        save_file(weights, path, {"format": "pt"})

    return damage


def _only_a_pickle(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _only_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def _no_eos(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=None)
    edit(folder / "config.json", eos_token_id=None)
    edit(folder / "tokenizer_config.json", eos_token=None)


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (shutil.rmtree, "there is no folder"),
        (_remove("config.json"), "has no config.json"),
        (_only_an_adapter, "LoRA adapter"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (_config(model_type="no_such"), "model_type 'no_such' is not one that transformers knows"),
        (_config(model_type=None), "model_type None"),
        (_config(model_type="own", auto_map={"AutoConfig": "own.Config"}), "code of its own, which is never run"),
        (_config(quantization_config={"quant_method": "gptq", "bits": 4}), "quantized"),
        (_config(hidden_size="many"), "config.json cannot be used"),
        (_remove("model.safetensors"), "no .safetensors file"),
        (_only_a_pickle, "is a pickle, which is never read"),
        (_truncated, "cannot be loaded"),
        (_weights(lambda w: w.pop("model.norm.weight")), "missing from the files, e.g. model.norm.weight"),
        (_config(intermediate_size=64), "cannot be loaded"),
        (_weights(lambda w: w["lm_head.weight"].fill_(torch.nan)), "NaN"),
        (_remove("tokenizer.json"), "tokenizer"),
        (_no_eos, "names an EOS token"),
    ],
)
def test_a_damaged_model_is_refused_with_the_reason(saved_model: Path, damage: object, complaint: str) -> None:
    damage(saved_model)
    with pytest.raises(ModelError, match=complaint):
        load(saved_model)


def test_a_tokenizer_of_another_model_is_refused(saved_model: Path) -> None:
    tokenizer = tiny_arith_tokenizer()
    tokenizer.add_tokens([f"<extra_{i}>" for i in range(10)])
    tokenizer.save_pretrained(saved_model)
    with pytest.raises(ModelError, match="do not belong together"):
        load(saved_model)


SMALL = {
    "vocab_size": 20,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
}


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8)), "final_logit_softcapping=30"),
        (lambda: CohereForCausalLM(CohereConfig(**SMALL)), "logit_scale=0.0625"),
        (lambda: PhiForCausalLM(PhiConfig(**SMALL)), "bias"),
        (lambda: T5ForConditionalGeneration(T5Config(vocab_size=20, d_model=32, num_layers=1)), "not a decoder-only"),
    ],
    ids=["softcap", "scale", "bias", "encoder-decoder"],
)
def test_heads_that_log_probs_are_not_written_for_are_refused(tmp_path: Path, make: object, complaint: str) -> None:
    torch.manual_seed(0)
    make().save_pretrained(tmp_path)
    tiny_arith_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=complaint):
        load(tmp_path)


def test_a_change_of_logits_that_no_config_tells_is_noticed(saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = GPT2LMHeadModel.forward

    def scaled(self: GPT2LMHeadModel, **arguments: object) -> object:
        output = forward(self, **arguments)
        output.logits = output.logits * 1.1
        return output

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_embd=32, n_layer=1, n_head=4, initializer_range=0.3, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(saved_model)
    assert load(saved_model).parameters > 0
    monkeypatch.setattr(GPT2LMHeadModel, "forward", scaled)
    with pytest.raises(ModelError, match="not its last hidden states times its head"):
        load(saved_model)


def test_a_model_that_padding_confuses_is_refused(saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A model that ignores the positions it is given and counts from the left instead, as some do.
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_embd=32, n_layer=1, n_head=4, initializer_range=0.3, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(saved_model)
    states = Policy.hidden_states
    monkeypatch.setattr(
        Policy, "hidden_states", lambda self, ids, mask, _: states(self, ids, mask, torch.arange(ids.shape[1])[None])
    )
    with pytest.raises(ModelError, match="padding on the left"):
        load(saved_model)


def test_weights_are_named_as_in_the_saved_folder(saved_model: Path) -> None:
    # In memory the experts of a layer are one tensor; in its file, and for whoever reads such files, each is its own.
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **{"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 8},
        **{"num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8},
        **{"eos_token_id": 2, "tie_word_embeddings": True},
    )
    Qwen3MoeForCausalLM(config).save_pretrained(saved_model)
    saved = load_file(saved_model / "model.safetensors")
    named = {name: weight for part in load(saved_model).named_weights() for name, weight in part.items()}
    assert "model.layers.0.mlp.experts.3.up_proj.weight" in named
    assert named.keys() == saved.keys()
    assert all(torch.equal(weight, saved[name]) for name, weight in named.items())
