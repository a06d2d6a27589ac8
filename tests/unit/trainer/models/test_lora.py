"""LoRA: what is trained, what is frozen, what a folder of it holds, and what it is merged into; peft is the oracle."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from trainer import forward
from trainer.models import ModelError, Policy, load_lora_policy, load_policy, position_ids
from trainer.models.lora import LoraPolicy
from trainer.models.tiny_arith import tiny_arith_tokenizer
from trainer.recompute import recomputed_layers
from trainer.sequences import Sequences
from trainer.spec.model import LoraSpec

IDS = torch.tensor([[4, 5, 13, 6, 16, 3]])
MASK = torch.ones_like(IDS)
RANK = 3
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def adapted(
    models: Path, seed: int = 0, *, model_id: str = "path/small", model_dir: Path | None = None, **lora: object
) -> LoraPolicy:
    return load_lora_policy(
        model_id,
        LoraSpec.model_validate({"rank": RANK, **lora}),
        seed,
        adapter_dir=None,
        model_dir=model_dir,
        cache_dir=models,
        models_dir=models,
        device="cpu",
    )


def load(models: Path, model_dir: Path | None = None, model_id: str = "job/job_a@3") -> Policy:
    return load_policy(model_id, model_dir=model_dir, cache_dir=models, models_dir=models, device="cpu")


@pytest.fixture
def models(saved_model: Path) -> Path:
    return saved_model.parent


@pytest.fixture
def trained(models: Path) -> LoraPolicy:
    """An adapter that has moved: B is no longer 0."""
    policy = adapted(models)
    moved(policy)
    return policy


def moved(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(policy).values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def folder(trained: LoraPolicy, tmp_path: Path) -> Path:
    """The trained adapter, saved."""
    trained.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def trainable(policy: Policy) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in policy.model.named_parameters() if p.requires_grad}


def states(policy: Policy) -> torch.Tensor:
    return policy.hidden_states(IDS, MASK, position_ids(MASK))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_spec_has_the_usual_defaults_and_refuses_the_head() -> None:
    spec = LoraSpec()
    assert (spec.rank, spec.alpha, spec.dropout, spec.target_modules) == (16, 32.0, 0.0, "all-linear")
    assert LoraSpec(rank=4).alpha == 8.0
    assert LoraSpec.model_validate(spec.model_dump(mode="json")) == spec
    for wrong in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"dropout": -0.1}, {"target_modules": []}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            LoraSpec.model_validate(wrong)
    for head in ("lm_head", "model.lm_head"):
        with pytest.raises(ValidationError, match="log-probs are computed from its weight"):
            LoraSpec(target_modules=["q_proj", head])


def test_only_the_adapter_is_trained_and_it_begins_as_its_base(models: Path) -> None:
    base, policy = load(models, model_id="path/small"), adapted(models)
    assert torch.equal(states(policy), states(base))
    names = trainable(policy)
    assert {part for name in names for part in name.split(".") if part in LINEAR} == LINEAR
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    # Per layer and rank: inputs + outputs of q, k, v, o (width 32, heads 4 x 8, key-values 2 x 8) and of the MLP (48).
    assert policy.parameters == 2 * RANK * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 48))
    (states(policy) @ policy.lm_head_weight.T).sum().backward()
    assert {name for name, p in policy.model.named_parameters() if p.grad is not None} == set(names)
    assert base.parameters == sum(p.numel() for p in base.model.parameters())


def test_a_seed_makes_an_adapter_whatever_ran_before(models: Path) -> None:
    torch.manual_seed(5)
    first = adapted(models, seed=1)
    torch.rand(7)
    state = torch.random.get_rng_state()
    again, other = adapted(models, seed=1), adapted(models, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in trainable(first).items():
        assert torch.equal(parameter, trainable(again)[name])
        assert torch.equal(parameter, trainable(other)[name]) == ("lora_B" in name)


def test_without_its_adapter_it_is_the_base_in_the_same_memory(models: Path, trained: LoraPolicy) -> None:
    reference = trained.without_adapter()
    with torch.no_grad():
        before = states(trained)
        assert torch.equal(states(reference), states(load(models, model_id="path/small")))
        assert not torch.allclose(before, states(reference), atol=1e-2)
        assert torch.equal(states(trained), before)
    assert reference.model is trained.model
    assert trained.parameters == sum(p.numel() for p in trainable(trained).values()) > 0


def test_a_saved_adapter_is_small_and_peft_reads_it(
    models: Path, trained: LoraPolicy, folder: Path, saved_model: Path
) -> None:
    assert {path.name for path in folder.iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors", "base.json", "tokenizer.json", "tokenizer_config.json")
    }
    # 4 bytes a number and a header; the base's weights are not there.
    numbers, header = 4 * trained.parameters, 200 * len(trainable(trained))
    assert numbers < (folder / "adapter_model.safetensors").stat().st_size < numbers + header
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "path/small"
    assert config["target_modules"] == sorted(LINEAR)
    base = AutoModelForCausalLM.from_pretrained(saved_model, dtype=torch.float32, attn_implementation="sdpa")
    theirs = PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        logits = states(trained) @ trained.lm_head_weight.T
        torch.testing.assert_close(theirs(IDS).logits, logits, rtol=0, atol=1e-5)
        merged = load(models, folder)
        assert merged.model_id == "job/job_a@3"
        torch.testing.assert_close(states(merged) @ merged.lm_head_weight.T, logits, rtol=0, atol=1e-4)
    expected = theirs.merge_and_unload().state_dict()
    weights = merged.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    # Merged it is a whole model like any other.
    assert merged.parameters == sum(p.numel() for p in merged.model.parameters())


def test_a_saved_adapter_is_the_same_bytes_every_time(trained: LoraPolicy, folder: Path, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_adapter_that_is_loaded_goes_on_where_it_was(models: Path, trained: LoraPolicy, folder: Path) -> None:
    resumed = load_lora_policy(
        *("path/small", LoraSpec(rank=RANK), 9),
        adapter_dir=folder,
        model_dir=None,
        cache_dir=models,
        models_dir=models,
        device="cpu",
    )
    assert trainable(resumed).keys() == trainable(trained).keys()
    assert all(torch.equal(p, trainable(trained)[name]) for name, p in trainable(resumed).items())
    with pytest.raises(ModelError, match=r"does not fit this model: 28 of its tensors differ, e.g. .*lora_A"):
        adapted(models, rank=RANK + 1).load_adapter(folder)


def test_names_choose_the_layers(models: Path) -> None:
    policy = adapted(models, target_modules=["v_proj", "model.layers.1.mlp.up_proj"])
    assert {name.partition(".lora_")[0] for name in trainable(policy)} == {
        *("model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj", "model.layers.1.mlp.up_proj")
    }
    with pytest.raises(ModelError, match=r"no module is called 'query'; LoRA adapts down_proj, .*, q_proj, .*v_proj"):
        adapted(models, target_modules=["q_proj", "query"])
    for name in ("embed_tokens", "self_attn", "norm"):
        with pytest.raises(ModelError, match=f"'{name}' is the head or no linear layer"):
            adapted(models, target_modules=[name])


def test_layers_whose_weight_is_the_other_way_around_merge_rightly(
    saved_model: Path, models: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_embd=32, n_layer=1, n_head=4, initializer_range=0.3, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(saved_model)
    policy = adapted(models)
    moved(policy)
    policy.save_pretrained(tmp_path / "adapter")
    merged = load(models, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(states(merged), states(policy), rtol=0, atol=1e-4)
        assert not torch.allclose(states(merged), states(policy.without_adapter()), atol=1e-2)
        # The head is tied to the embedding, and neither is touched.
        assert torch.equal(merged.lm_head_weight, policy.lm_head_weight)


def test_dropout_is_drawn_from_its_seed_and_only_where_it_is_asked_for(models: Path) -> None:
    policy = adapted(models, dropout=0.5)
    moved(policy)
    with torch.no_grad():
        plain = states(policy)
        state = torch.random.get_rng_state()
        drawn = []
        for seed in (1, 1, 2):
            torch.rand(3)
            with policy.dropout(0, seed):
                drawn.append(states(policy))
                assert not torch.equal(states(policy), drawn[-1])
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
        assert not torch.equal(drawn[0], plain)
        assert torch.equal(states(policy), plain)
        torch.random.set_rng_state(state)
        with policy.dropout(0, 1):
            pass
        assert torch.equal(torch.random.get_rng_state(), state)
        with adapted(models).dropout(0, 1):
            assert torch.equal(states(adapted(models)), states(policy.without_adapter()))


def test_an_adapter_on_a_checkpoint_of_another_job_keeps_that_checkpoint(
    models: Path, folder: Path, tmp_path: Path
) -> None:
    # First job: an adapter on path/small. Second: an adapter on its checkpoint. Third: on the second's.
    second = adapted(models, model_id="job/job_a@3", model_dir=folder)
    moved(second)
    second.save_pretrained(tmp_path / "second")
    kept = tmp_path / "second" / "base" / "adapter_model.safetensors"
    assert kept.samefile(folder / "adapter_model.safetensors")  # One file, no copy.
    shutil.rmtree(folder)
    with torch.no_grad():
        merged = load(models, tmp_path / "second", "job/job_b@1")
        torch.testing.assert_close(states(merged), states(second), rtol=0, atol=1e-4)
        third = adapted(models, model_id="job/job_b@1", model_dir=tmp_path / "second")
        third.save_pretrained(tmp_path / "third")
        shutil.rmtree(tmp_path / "second")
        assert torch.equal(states(load(models, tmp_path / "third", "job/job_c@1")), states(merged))


def test_an_adapter_on_a_whole_checkpoint_keeps_that_too(models: Path, saved_model: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(saved_model, tmp_path / "whole")
    policy = adapted(models, model_id="job/job_a@3", model_dir=whole)
    policy.save_pretrained(tmp_path / "adapter")
    shutil.rmtree(whole)
    shutil.rmtree(saved_model)
    with torch.no_grad():
        assert torch.equal(states(load(models, tmp_path / "adapter", "job/job_b@1")), states(policy))


class _Payload:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


def test_a_pickle_is_never_read(models: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Payload(tmp_path / "ran")))
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors, the only adapter weights that are read"):
        load(models, folder)
    assert not (tmp_path / "ran").exists()


def _config(**changes: object) -> object:
    return lambda folder: edit(folder / "adapter_config.json", **changes)


def _weights(change: object) -> object:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "adapter_model.safetensors")
        change(weights)
        save_file(weights, folder / "adapter_model.safetensors")

    return damage


def _other_base(folder: Path) -> None:
    path = folder.parent / "models" / "small" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] += 1e-6
    save_file(weights, path, {"format": "pt"})


def _own_base(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "models" / "itself")
    edit(folder / "adapter_config.json", base_model_name_or_path="path/itself")


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config.json can't be read"),
        (_config(peft_type="LOHA"), "does not describe a LoRA adapter"),
        (_config(megatron_config={"a": 1}, megatron_core="os"), "sets megatron_config"),
        (_config(megatron_core="os"), "sets megatron_core to 'os'; only plain LoRA is read"),
        (_config(modules_to_save=["lm_head"]), "sets modules_to_save"),
        (_config(use_dora=True), "sets use_dora"),
        (_config(rank_pattern={"q_proj": 9}), "sets rank_pattern"),
        (_config(bias="all"), "sets bias"),
        (_config(new_option="on"), "sets new_option"),
        (_config(target_modules="(a+)+b"), "target_modules: Input should be a valid list"),
        (_config(target_modules=["lm_head"]), "'lm_head' is the head or no linear layer"),
        (_config(target_modules=["q_proj"]), "does not fit this model"),
        (_config(r=10**9), "rank is said to be 1000000000 and is"),
        (_config(r="3"), "adapter_config.json is wrong: r: "),
        (_config(base_model_name_or_path="HuggingFaceTB/SmolLM2"), "base of its LoRA adapter can't be found: unknown"),
        (_config(base_model_name_or_path="path/../../etc"), "unknown model id"),
        (_config(base_model_name_or_path="path/absent"), "no folder 'absent'"),
        (_config(base_model_name_or_path="job/job_x@1"), "whose checkpoint this is"),
        (_own_base, "holds a LoRA adapter where a whole model is needed"),
        (_other_base, "not those that the LoRA adapter was trained on"),
        (lambda folder: (folder / "base.json").write_text("[]"), "base.json of the LoRA adapter can't be read"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "safetensors can't be read"),
        (_weights(lambda w: w.pop(FIRST)), "down_proj.lora_A.weight is missing"),
        (_weights(lambda w: w.update(extra=torch.zeros(1))), "1 of its tensors differ, e.g. extra"),
        (_weights(lambda w: w[FIRST].fill_(torch.nan)), "NaN or infinite"),
    ],
)
def test_a_wrong_adapter_is_refused_with_the_reason(models: Path, folder: Path, damage: object, complaint: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=complaint):
        load(models, folder)


def test_a_half_precision_adapter_is_merged_in_float32(models: Path, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    halves = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file({name: tensor.float() for name, tensor in halves.items()}, path)
    expected = load(models, folder).model.state_dict()
    save_file(halves, path)
    weights = load(models, folder).model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_tiny_arith_can_be_adapted(model_cache: Path) -> None:
    policy = adapted(model_cache, model_id="builtin/tiny-arith", rank=4)
    assert 0 < policy.parameters < 50_000
    assert policy.tokenizer("1+1=")["input_ids"] == tiny_arith_tokenizer()("1+1=")["input_ids"]


SEQUENCES = Sequences([[4, 5, 13], [4, 5, 13], [6, 16]], [[3, 7, 2], [8], [9, 9]])
TARGETS = pytest.mark.parametrize("targets", ["all-linear", ["q_proj"], ["down_proj"]], ids=str)


def gradients(policy: Policy, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    policy.model.zero_grad()
    with policy.dropout(0, 1):
        for part in forward.response_statistics(policy, SEQUENCES, 1.0, dtype, 8):
            (part.logp.sum() + part.entropy.sum()).backward()
    return {name: parameter.grad.clone() for name, parameter in trainable(policy).items()}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert all(gradient.abs().max() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


@TARGETS
def test_prompts_are_shared_with_an_adapter_as_without(
    models: Path, monkeypatch: pytest.MonkeyPatch, targets: str | list[str]
) -> None:
    # With q_proj or down_proj alone, the first layer's keys and values have no gradient to pass on.
    policy = adapted(models, target_modules=targets)
    moved(policy)
    shared = gradients(policy)
    monkeypatch.setattr(forward, "can_share_prompts", lambda _: False)
    assert_close(gradients(policy), shared)


@TARGETS
def test_recomputed_layers_give_an_adapter_the_gradient_of_shared_prompts(
    models: Path, targets: str | list[str]
) -> None:
    policy = adapted(models, target_modules=targets)
    moved(policy)
    passes: list[int] = []
    policy.model.base_model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    shared = gradients(policy)
    plain = len(passes)
    with recomputed_layers(policy, True):
        found = gradients(policy)
    # Each pass again, but the prompts' where nothing of the first layer's keys and values is trained.
    assert plain < len(passes) - plain <= 2 * plain
    assert all(torch.equal(found[name], gradient) for name, gradient in shared.items())
    with recomputed_layers(policy, True), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(forward, "can_share_prompts", lambda _: False)
        assert_close(gradients(policy), shared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_recomputed_layers_drop_out_the_same_again(
    models: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    policy = adapted(models, dropout=0.5)
    moved(policy)
    for shares in (True, False):
        monkeypatch.setattr(forward, "can_share_prompts", lambda _, shares=shares: shares)
        plain = gradients(policy, dtype)
        with recomputed_layers(policy, True):
            recomputed = gradients(policy, dtype)
        assert all(torch.equal(recomputed[name], gradient) for name, gradient in plain.items())


def test_an_engine_with_weights_of_its_own_gets_those_of_the_merged_model(
    trained: LoraPolicy, folder: Path, models: Path
):
    before = {name: weight.clone() for name, weight in trained.model.state_dict().items()}
    named = {name: weight for part in trained.named_weights() for name, weight in part.items()}
    load(models, folder).save_pretrained(folder.parent / "merged")
    merged = load_file(folder.parent / "merged" / "model.safetensors")
    assert named.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(named[name], weight, rtol=0, atol=1e-6)
    assert all(torch.equal(weight, before[name]) for name, weight in trained.model.state_dict().items())
