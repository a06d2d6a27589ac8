"""From a folder of weights to a policy, refusing whatever could not be sampled and trained rightly.

Safetensors only, code of the model's own never. The rest of the trainer relies on what is checked here: logits are
exactly hidden @ head.T, padding on the left changes nothing, every weight was in the file.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from trainer.models.errors import ModelError
from trainer.models.lean_layers import make_lean
from trainer.models.policy import Model, Policy, position_ids

_log = logging.getLogger(__name__)

_LOGIT_CAPS = ("final_logit_softcapping", "output_logit_soft_cap", "logits_soft_cap")
_LOGIT_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "logits_mup_width_multiplier")


def load_folder(model_id: str, folder: Path, device: torch.device) -> Policy:
    """Load `folder` in float32 onto `device`, in eval mode. ModelError says why a model is refused."""
    config = _read_config(model_id, folder)
    model = _read_model(model_id, folder, config)
    tokenizer = _read_tokenizer(model_id, folder)
    head = _check_head(model_id, model)
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= highest < head.shape[0]:
        raise ModelError(
            f"{model_id}: the tokenizer's highest token id is {highest}, the model has {head.shape[0]} tokens; "
            "tokenizer and weights do not belong together"
        )
    eos_ids = _eos_ids(model_id, model, tokenizer)
    pad_id = tokenizer.pad_token_id
    policy = Policy(
        model_id,
        make_lean(model.to(device).eval()),
        tokenizer,
        eos_ids,
        pad_id if isinstance(pad_id, int) else min(eos_ids),
    )
    probe(policy)
    return policy


def _read_config(model_id: str, folder: Path) -> PretrainedConfig:
    if not folder.is_dir():
        raise ModelError(f"{model_id}: there is no folder {folder}; check the name")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(f"{model_id}: {folder} holds a LoRA adapter where a whole model is needed")
        raise ModelError(f"{model_id}: {folder} has no config.json; it must hold a model saved by save_pretrained")
    try:
        raw: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise ModelError(f"{model_id}: config.json is not JSON ({error})") from error
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if model_type not in CONFIG_MAPPING:
        reason = (
            "brings Python code of its own, which is never run" if isinstance(raw, dict) and "auto_map" in raw else ""
        )
        raise ModelError(
            f"{model_id}: model_type {model_type!r} is not one that transformers knows"
            + (f", and the model {reason}" if reason else "; check config.json")
        )
    if raw.get("quantization_config") is not None:
        raise ModelError(f"{model_id}: its weights are quantized; training needs the full-precision edition")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(  # a folder  # nosec B615
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"{model_id}: config.json cannot be used ({error})") from error
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{model_id}: {model_type} is not a decoder-only language model")
    return config


def _read_model(model_id: str, folder: Path, config: PretrainedConfig) -> Model:
    if not any(folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        raise ModelError(
            f"{model_id}: {folder} has no .safetensors file"
            + (f"; {others[0]} is a pickle, which is never read: save the model again as safetensors" if others else "")
        )
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    try:
        model, loading = load(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{model_id}: its weights cannot be loaded ({error})") from error
    for problem, names in (
        ("missing from", loading["missing_keys"]),
        ("of another shape in", loading["mismatched_keys"]),
    ):
        if names:
            raise ModelError(
                f"{model_id}: {len(names)} weights are {problem} the files, e.g. {sorted(map(str, names))[0]}"
            )
    if loading["unexpected_keys"]:
        _log.warning("%s: %d weights of the files are not used", model_id, len(loading["unexpected_keys"]))
    return model


def _read_tokenizer(model_id: str, folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(  # a folder  # nosec B615
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{model_id}: its tokenizer cannot be loaded ({error})") from error
    return tokenizer


def _check_head(model_id: str, model: Model) -> torch.Tensor:
    """The head's weight [V, D]; ModelError when logits are more than hidden @ weight.T."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ModelError(f"{model_id}: its head is not a linear layer, which log-probs are not written for")
    if head.bias is not None:
        raise ModelError(f"{model_id}: its head has a bias, which log-probs are not written for; choose another model")
    config = model.config.get_text_config()
    changes = [name for name in _LOGIT_CAPS if getattr(config, name, None) is not None]
    changes += [name for name in _LOGIT_SCALES if getattr(config, name, None) not in (None, 1, 1.0)]
    if changes:
        raise ModelError(
            f"{model_id}: it changes its logits ({', '.join(f'{name}={getattr(config, name)}' for name in changes)}), "
            "which log-probs are not written for; choose another model"
        )
    return head.weight


def _eos_ids(model_id: str, model: Model, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ids: set[int] = set()
    for declared in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(declared, int):
            ids.add(declared)
        elif declared is not None:
            ids.update(declared)
    if not ids:
        raise ModelError(
            f"{model_id}: neither generation_config.json nor the tokenizer names an EOS token, so no response "
            "could ever end; set eos_token_id in generation_config.json"
        )
    return frozenset(ids)


@torch.inference_mode()
def probe(policy: Policy) -> None:
    """Compare with the model's own forward pass what configs cannot tell: unknown scalings, unusual positions."""
    tokens = torch.linspace(0, policy.vocab_size - 1, 6, device=policy.device).long()
    expected = policy.model(input_ids=tokens[None], use_cache=False).logits[0].float()
    if not torch.isfinite(expected).all():
        raise ModelError(f"{policy.model_id}: it computes NaN or infinite logits; its weights are damaged")
    tolerance = 1e-3 * max(1.0, float(expected.abs().max()))
    padded = torch.nn.functional.pad(tokens, (3, 0), value=policy.pad_id)[None]
    mask = torch.ones_like(padded)
    mask[:, :3] = 0
    for ids, attention_mask, complaint in (
        (tokens[None], torch.ones_like(tokens[None]), "its logits are not its last hidden states times its head"),
        (padded, mask, "padding on the left changes what it computes"),
    ):
        hidden = policy.hidden_states(ids, attention_mask, position_ids(attention_mask))[0, -len(tokens) :]
        logits = hidden.float() @ policy.lm_head_weight.T
        if float((logits - expected).abs().max()) > tolerance:
            raise ModelError(f"{policy.model_id}: {complaint}, so its log-probs would be wrong; choose another model")
