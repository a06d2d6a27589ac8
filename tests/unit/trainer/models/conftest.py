"""A small saved model that a test may damage."""

from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from trainer.models.tiny_arith import tiny_arith_tokenizer


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    """A Qwen3 with untied head and several EOS ids, as save_pretrained leaves it."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=20,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            initializer_range=0.3,
            tie_word_embeddings=False,
            eos_token_id=[2, 7],
        )
    )
    folder = tmp_path / "models" / "small"
    model.save_pretrained(folder)
    tiny_arith_tokenizer().save_pretrained(folder)
    return folder
