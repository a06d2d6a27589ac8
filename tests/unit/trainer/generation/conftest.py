"""Small random models whose distributions are peaked enough for a mistake to show."""

from collections.abc import Callable

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trainer.models import Policy
from trainer.models.tiny_arith import tiny_arith_tokenizer

MakePolicy = Callable[..., Policy]

SIZES = {
    "vocab_size": 18,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}


def build(kind: str = "llama", eos_ids: frozenset[int] = frozenset({2}), pad_id: int = 0) -> Policy:
    torch.manual_seed(0)
    match kind:
        case "llama":
            model = LlamaForCausalLM(LlamaConfig(**SIZES))
        case "qwen3":
            model = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))
        case "mistral":  # Attends to the last 4 tokens only.
            model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4))
        case "gpt2":  # Learned positions; dropout, in train mode.
            model = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=18,
                    n_embd=32,
                    n_layer=2,
                    n_head=4,
                    n_positions=64,
                    initializer_range=0.3,
                    resid_pdrop=0.5,
                    embd_pdrop=0.5,
                    attn_pdrop=0.5,
                    bos_token_id=1,
                    eos_token_id=2,
                )
            )
    return Policy(kind, model.eval(), tiny_arith_tokenizer(), eos_ids, pad_id)


@pytest.fixture
def make_policy() -> MakePolicy:
    return build


@pytest.fixture
def policy() -> Policy:
    return build()
