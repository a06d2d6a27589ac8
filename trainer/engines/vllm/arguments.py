"""How vLLM is set up, whoever it draws for: its weights come from a policy, its prompts are token ids."""

from pathlib import Path
from typing import Any, Literal

import torch

CPU_CACHE_BYTES = 2**30
"""Key-value cache on a CPU. Requests that do not fit wait."""


def process_environment(*, on_cpu: bool) -> dict[str, str]:
    """What its process gets for the device."""
    # Small functions that vLLM compiles however eager it is: on a CPU that needs a C++ compiler and half a minute.
    return {"TORCHDYNAMO_DISABLE": "1"} if on_cpu else {}


def engine_arguments(
    folder: Path,
    *,
    compute_dtype: torch.dtype,
    max_model_len: int,
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"],
    on_cpu: bool,
) -> dict[str, Any]:
    """Those of vLLM's EngineArgs that do not depend on who has the GPU.

    folder: holds the model's config; that is all that vLLM reads of a model.
    max_model_len: -1: as many tokens as the model has positions and the cache has room for.
    logprobs_mode: processed: at the sampling temperature; raw: of the model itself.
    """
    arguments: dict[str, Any] = {
        "model": str(folder),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "trust_remote_code": False,
        "generation_config": "vllm",  # Not the model's own, which may bring penalties.
        "logprobs_mode": logprobs_mode,
        "dtype": str(compute_dtype).removeprefix("torch."),
        "max_model_len": max_model_len,
        "worker_extension_cls": "trainer.engines.vllm.worker.WeightReceiver",
        "enable_prefix_caching": True,
        "seed": 0,
    }
    if on_cpu:
        # A prompt is shared by its samples in whole blocks; 32 is the smallest that is fast there.
        arguments |= {"enforce_eager": True, "kv_cache_memory_bytes": CPU_CACHE_BYTES, "block_size": 32}
    return arguments
