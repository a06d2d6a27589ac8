"""What the trainer knows a model as: tokens to hidden states, the head's weight, the tokenizer and its special ids.

Log-probs are left to `trainer.logprobs` (from the hidden states and the head, in tiles), sampling to
`trainer.engines`, the optimizer and train/eval mode to the loop. Shapes: B rows, T tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.distributed.tensor import DTensor
from transformers import DynamicCache, PreTrainedTokenizerBase
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_layers import GradientCheckpointingLayer

Model: TypeAlias = Any
"""A transformers PreTrainedModel. Its own annotations are too partial to check calls against."""


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions [B, T] that count the unmasked tokens of each row from 0, wherever the padding is."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def autocast(device: torch.device, compute_dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Compute in `compute_dtype` over float32 weights: autocast for bfloat16, nothing for float32."""
    if compute_dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=compute_dtype)


def backward(outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor] | None = None) -> None:
    """`torch.autograd.backward` in the dtypes of the forward pass, also where autocast is on around it."""
    with torch.autocast(outputs[0].device.type, enabled=False):
        torch.autograd.backward(outputs, gradients)


class Policy:
    """A causal language model with float32 weights and everything that belongs to it.

    model: in eval mode when it comes from `load_policy`; whoever trains it may switch.
    eos_ids: every token that ends a response, from the generation config and the tokenizer.
    pad_id: fills batches and may be one of `eos_ids`, so that no mask may be made by comparing with it.
    """

    def __init__(
        self,
        model_id: str,
        model: Model,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        pad_id: int,
    ) -> None:
        self.model_id = model_id
        self.model = model
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.pad_id = pad_id

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @property
    def device(self) -> torch.device:
        return self._head.device

    @property
    def parameters(self) -> int:
        """How many numbers are trained; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    @property
    def vocab_size(self) -> int:
        """Rows of the head, which may be more than the tokenizer's tokens."""
        return self._head.shape[0]

    @property
    def positions(self) -> int:
        """How many tokens, prompt and response, the model has positions for."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return positions if isinstance(positions, int) else 2**31 - 1

    @property
    def lm_head_weight(self) -> torch.Tensor:
        """[V, D], float32. `load_policy` has made sure that logits are hidden @ weight.T and nothing else.

        Of a policy that is spread over the ranks it is gathered, by all of them at once, and its gradient is added up.
        """
        head = self._head
        # `whole_weight` is there where a head is spread (`trainer.sharding`).
        return self.model.get_output_embeddings().whole_weight() if isinstance(head, DTensor) else head

    @property
    def _head(self) -> torch.nn.Parameter:
        weight: torch.nn.Parameter = self.model.get_output_embeddings().weight
        return weight

    @property
    def backbone(self) -> torch.nn.Module:
        """The model without its head; takes what transformers' base models take."""
        backbone: torch.nn.Module = self.model.base_model
        return backbone

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        cache: DynamicCache | None = None,
    ) -> torch.Tensor:
        """Last hidden states [B, T, D], after the final norm, in the compute dtype; arguments are integer [B, T].

        With a cache of C tokens, `attention_mask` is [B, C + T], and the T tokens are appended to the cache.
        Differentiable, through the cache too. The state at a token predicts the token after it.
        """
        output = self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def dropout(self, *seed: int) -> AbstractContextManager[Any]:
        """For updates: within it the dropout that the spec asks for is active. A whole model has none."""
        return nullcontext()

    def named_weights(self) -> Iterator[dict[str, torch.Tensor]]:
        """Every weight of the whole model by its name in a saved folder, a tied one once, those of a decoder layer
        together and any other alone; for the engines that keep weights of their own. Tensors are the model's own where
        they can be, and not to be changed.

        Those that are spread over the ranks are gathered, by all ranks at once, and only what is yielded is whole."""
        layers = [name for name, module in self.model.named_modules() if isinstance(module, GradientCheckpointingLayer)]

        def place(item: tuple[str, torch.Tensor]) -> str:
            return next((layer for layer in layers if item[0].startswith(f"{layer}.")), item[0])

        for _, parameters in groupby(self.model.named_parameters(), place):
            with torch.no_grad():
                weights = {name: _gathered(parameter) for name, parameter in parameters}
                # Some models are laid out in memory otherwise than in their files.
                named: dict[str, torch.Tensor] = revert_weight_conversion(self.model, self._merged(weights))
            yield named

    def _merged(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Some of the model's own weights, by its own names, as those of the model that they stand for."""
        return weights

    def save_pretrained(self, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
        """Write safetensors, configs and tokenizer to `folder`, which loads again as a model directory.

        state: the trained weights where the model itself has only this rank's part (`trainer.sharding`)."""
        self.model.save_pretrained(folder, state_dict=state)
        self.tokenizer.save_pretrained(folder)


def _gathered(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach()
