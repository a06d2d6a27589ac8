"""Lean layers give what transformers' give, forward and back, and keep less on the way."""

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    DynamicCache,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trainer.models import autocast, backward, lean_functions, position_ids
from trainer.models.lean_layers import LeanAttention, LeanLinear, LeanMLP, LeanRMSNorm, make_lean
from trainer.models.policy import Model

CPU = torch.device("cpu")
VOCAB, HIDDEN, INNER, LAYERS, HEADS, KEYS, WIDTH = 64, 96, 160, 3, 6, 2, 16
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "head_dim": WIDTH,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}
ROWS, TOKENS, SEEN = 4, 30, 13
MODELS: dict[str, Callable[[], Model]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "mistral with a window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=5)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
}


@pytest.fixture(params=list(MODELS))
def plain(request: pytest.FixtureRequest) -> Model:
    """As transformers makes it, with norms and biases that are not the ones it begins with."""
    torch.manual_seed(0)
    model = MODELS[request.param]().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
    return model


def lean(model: Model) -> Model:
    return make_lean(copy.deepcopy(model))


def inputs(padded: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask [ROWS, TOKENS]; the pad id also stands where nothing is padded."""
    torch.manual_seed(1)
    ids, mask = torch.randint(0, VOCAB, (ROWS, TOKENS)), torch.ones(ROWS, TOKENS, dtype=torch.int64)
    if padded:
        mask[0, :7] = mask[1, :3] = mask[2, -4:] = 0
    return ids, mask


def passes(model: Model, dtype: torch.dtype, padded: bool = True, times: int = 1) -> tuple[Tensor, Tensor]:
    """Hidden states, and the gradient of all the trained parameters of the model's base."""
    ids, mask = inputs(padded)
    direction = torch.randn(ROWS, TOKENS, HIDDEN) * mask[..., None]
    model.zero_grad()
    for _ in range(times):
        with autocast(CPU, dtype):
            hidden = model.base_model(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))[0]
        backward([(hidden.double() * direction).sum()])
    trained = [p for p in model.base_model.parameters() if p.requires_grad]
    return hidden.detach() * mask[..., None], torch.cat([p.grad.double().flatten() for p in trained])


def error(value: Tensor, exact: Tensor) -> float:
    return ((value.double() - exact.double()).norm() / exact.double().norm()).item()


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "whole"])
def test_float32_is_the_same_but_for_rounding(plain: Model, padded: bool):
    hidden, gradient = passes(plain, torch.float32, padded)
    lean_hidden, lean_gradient = passes(lean(plain), torch.float32, padded)
    assert error(lean_hidden, hidden) < 2e-6
    assert error(lean_gradient, gradient) < 3e-6


def test_bfloat16_is_as_near_to_the_exact_result(plain: Model):
    hidden, gradient = passes(copy.deepcopy(plain).double(), torch.float32)
    plain_hidden, plain_gradient = passes(plain, torch.bfloat16)
    lean_hidden, lean_gradient = passes(lean(plain), torch.bfloat16)
    # The last norm rounds what it gives here already, and nowhere else is anything lost.
    assert error(lean_hidden, hidden) < 1.1 * error(plain_hidden.bfloat16(), hidden)
    assert error(lean_gradient, gradient) < 1.1 * error(plain_gradient, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_pass_adds_to_the_gradient(plain: Model, dtype: torch.dtype):
    model = lean(plain)
    once, twice = passes(model, dtype)[1], passes(model, dtype, times=2)[1]
    assert error(twice, 2 * once) < 1e-5


@torch.no_grad()
def test_sampling_over_a_cache_is_the_same(plain: Model):
    ids, mask = inputs(padded=False)
    mask[:2, :4] = 0

    def states(model: Model) -> Tensor:
        cache, positions, width = DynamicCache(config=model.config), position_ids(mask), 0
        found = []
        for part in (SEEN, 1, 1):
            columns = slice(width, width + part)
            width += part
            found.append(
                model.base_model(
                    input_ids=ids[:, columns],
                    attention_mask=mask[:, :width],
                    position_ids=positions[:, columns],
                    past_key_values=cache,
                    use_cache=True,
                )[0][:, -1]
            )
        return torch.stack(found)

    assert error(states(lean(plain)), states(plain)) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_learns_the_same_on_it(plain: Model, dtype: torch.dtype):
    def adapted(model: Model) -> Model:
        torch.manual_seed(2)
        config = LoraConfig(r=4, target_modules=["q_proj", "up_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(model, config)
        return model

    gradient = passes(adapted(copy.deepcopy(plain)), dtype)[1]
    assert error(passes(adapted(lean(plain)), dtype)[1], gradient) < (3e-6 if dtype == torch.float32 else 3e-2)


@pytest.mark.parametrize("scores", [1, 6 * TOKENS * 4, 2 * 6 * TOKENS * TOKENS])
def test_attention_goes_back_in_parts_of_any_size(plain: Model, scores: int, monkeypatch: pytest.MonkeyPatch):
    whole = passes(lean(plain), torch.float32)[1]
    monkeypatch.setattr(lean_functions, "SCORES", scores)
    assert error(passes(lean(plain), torch.float32)[1], whole) < 1e-6


def test_a_layer_keeps_what_its_gradients_need_and_no_more():
    torch.manual_seed(0)
    plain = MODELS["llama"]().eval()
    layer = 2 * HIDDEN * 4  # two norms keep their inputs, which are the residual stream, in float32,
    layer += 2 * 4  # and one number a token each;
    layer += 2 * HIDDEN * 2  # what they give, for the weights behind them;
    layer += (2 * HEADS + 2 * KEYS) * WIDTH * 2  # queries, keys, values, and what attention gives;
    layer += 2 * INNER * 2  # gate and up.
    last = HIDDEN * 4 + 4
    assert kept_bytes_a_token(lean(plain)) == LAYERS * layer + last
    assert kept_bytes_a_token(plain) > 1.9 * (LAYERS * layer + last)


def kept_bytes_a_token(model: Model) -> float:
    """In a bfloat16 pass, but for what all layers share: ids, mask, cos and sin."""
    ids, mask = inputs(padded=True)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        a_weight = storage.data_ptr() in own or (tensor.ndim == 2 and ROWS * TOKENS not in tensor.shape)
        if not a_weight and tensor.dtype not in (torch.int64, torch.bool) and tensor.shape[-2:] != (1, WIDTH):
            kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # or another one would get its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(CPU, torch.bfloat16):
        model.base_model(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))
    return sum(kept.values()) / (ROWS * TOKENS)


def test_only_known_layers_are_changed(plain: Model):
    model = lean(plain)
    kinds = [type(module) for module in model.modules()]
    assert [kinds.count(kind) for kind in (LeanAttention, LeanMLP, LeanLinear)] == [LAYERS, LAYERS, 7 * LAYERS]
    assert kinds.count(LeanRMSNorm) >= 2 * LAYERS + 1
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    assert list(model.state_dict()) == list(plain.state_dict())
    other = GemmaForCausalLM(GemmaConfig(**SHAPE))
    assert [type(module) for module in lean(other).modules()] == [type(module) for module in other.modules()]
