"""The model folders that both sides load."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PretrainedConfig, Qwen3Config

from trainer.models import smollm2
from trainer.models.made_once import made_once

SMOLLM2 = "smollm2-135m"


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=151936,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=intermediate,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
    )


def shapes() -> dict[str, PretrainedConfig]:
    """Models of random weights by name: of these a step costs what it costs with the published weights."""
    return {
        "smollm2-135m-random": LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            tie_word_embeddings=True,
        ),
        "qwen3-0.6b-random": _qwen3(1024, 28, 16, 3072),
        "qwen3-4b-random": _qwen3(2560, 36, 32, 9728),
    }


def make_model(name: str, cache: Path) -> Path:
    """The folder of one of the driver's `MODELS`, made in `cache` the first time (the 4B shape takes 8 GB)."""
    smollm2_folder = made_once(cache / f"{SMOLLM2}-instruct-{smollm2.RECIPE}", smollm2.make_smollm2)
    if name == SMOLLM2:
        return smollm2_folder
    return made_once(cache / name, lambda folder: _make_random(folder, shapes()[name], smollm2_folder))


def _make_random(folder: Path, config: PretrainedConfig, tokenizer_folder: Path) -> None:
    """Random weights with SmolLM2's tokenizer, whose ids every vocabulary here has room for."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)  # a folder  # nosec B615
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    # Stored in bfloat16 for its size; both sides load it as float32.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
