"""Layers of Llama-shaped models that compute the same and keep less of it for the backward pass.

Under autocast transformers' layers are a dozen small operations each, whose intermediates autograd keeps: about 1 MB a
token for a model of 135 M parameters, more than half of it pointwise functions of something else that is kept too. Here
a norm keeps its input alone and rounds its output once for all the products behind it, the gated product of an MLP is
computed again when it is needed, rotations keep nothing, keys and values are not repeated for the query heads that
share them, and no gradient of a weight waits for the others (`trainer.models.lean_functions`).

Modules change their class and keep parameters and names, so that adapters, FSDP and checkpointing see what they know.
Which ones is decided by their class; those of all other models stay as they are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.activations import SiLUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from trainer.models.lean_functions import attention, embedded, gated_product, linear, rms_norm, rotated
from trainer.models.policy import Model

_FAMILIES = {
    f"transformers.models.{name.lower()}.modeling_{name.lower()}": name
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3")
}
"""Modules of transformers whose norm, MLP and attention differ in no more than biases and norms of queries and keys."""


def make_lean(model: Model) -> Model:
    """Change the layers of `model` that are known here, in place."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if model.config._attn_implementation != "sdpa" or type(model).__module__ not in _FAMILIES:
        return model
    for module in model.modules():
        name = type(module).__name__.removeprefix(_FAMILIES.get(type(module).__module__, ""))
        if type(module) is torch.nn.Linear and module is not head:
            module.__class__ = LeanLinear
        elif type(module) is torch.nn.Embedding and module is embeddings:
            module.__class__ = LeanEmbedding
        elif name in _LEAN and type(module).__module__ in _FAMILIES:
            module.__class__ = _LEAN[name]
    return model


class LeanLinear(torch.nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias) if torch.is_grad_enabled() else super().forward(input)


class LeanEmbedding(torch.nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        # A GPU's own kernel adds in an order that does not change from run to run.
        if not torch.is_grad_enabled() or self.weight.device.type != "cpu":
            return super().forward(input)
        return embedded(input, self.weight, self.padding_idx)


class LeanRMSNorm(torch.nn.Module):
    """Under autocast what comes out is rounded as the linear layers behind it would round it, unless the input was
    rounded: then it is a norm of queries or keys, which are rotated before they are multiplied."""

    weight: torch.nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        device = hidden_states.device.type
        rounded = torch.is_autocast_enabled(device) and hidden_states.dtype == torch.float32
        dtype = torch.get_autocast_dtype(device) if rounded else torch.promote_types(hidden_states.dtype, torch.float32)
        return rms_norm(hidden_states, self.weight, self.variance_epsilon, dtype)


class LeanMLP(torch.nn.Module):
    """down(act(gate(x)) * up(x)); gate and up are kept, what `down` multiplies is computed again."""

    gate_proj: torch.nn.Module
    up_proj: torch.nn.Module
    down_proj: torch.nn.Module
    act_fn: torch.nn.Module

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = self.gate_proj(x), self.up_proj(x), self.down_proj
        if not torch.is_grad_enabled():
            return self._down(gate, up)
        if type(down) is LeanLinear and isinstance(self.act_fn, SiLUActivation | torch.nn.SiLU):
            return gated_product(gate, up, down.weight, down.bias)
        # An adapter's layer, say.
        output: Tensor = checkpoint(self._down, gate, up, use_reentrant=False)
        return output

    def _down(self, gate: Tensor, up: Tensor) -> Tensor:
        output: Tensor = self.down_proj(self.act_fn(gate) * up)
        return output


class LeanAttention(torch.nn.Module):
    """Attention of grouped queries with rotary positions, over a cache if there is one."""

    q_proj: torch.nn.Module
    k_proj: torch.nn.Module
    v_proj: torch.nn.Module
    o_proj: torch.nn.Module
    head_dim: int
    layer_idx: int
    scaling: float
    q_norm: torch.nn.Module
    """Of Qwen3 only, as is k_norm."""
    k_norm: torch.nn.Module

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        **more: Any,  # noqa: ANN401 - what only some kernels of some devices want to know
    ) -> tuple[Tensor, None]:
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)
        queries: Tensor = self.q_proj(hidden_states).view(heads)
        keys: Tensor = self.k_proj(hidden_states).view(heads)
        values: Tensor = self.v_proj(hidden_states).view(heads)
        dtype = values.dtype
        if hasattr(self, "q_norm"):
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries, keys = (rotated(each, *position_embeddings, dtype).transpose(1, 2) for each in (queries, keys))
        values = values.transpose(1, 2)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.layer_idx)
        # A mask that is no plain one, or none where transformers cuts the keys.
        known = attention_mask.dtype == torch.bool if attention_mask is not None else queries.shape[2] == keys.shape[2]
        if queries.device.type == "cpu" and known:
            attended = attention(queries, keys, values, attention_mask, self.scaling).transpose(1, 2)
        else:
            attended, _ = sdpa_attention_forward(
                self, queries, keys, values, attention_mask, scaling=self.scaling, **more
            )
        return self.o_proj(attended.flatten(2)), None


_LEAN = {"RMSNorm": LeanRMSNorm, "MLP": LeanMLP, "Attention": LeanAttention}
