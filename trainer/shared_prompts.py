"""One pass over a prompt for all of its responses, forward and backward.

G rollouts of a prompt of P tokens cost P + sum of R_i tokens and not G P + sum of R_i. The prompts of a batch go
through the model once and leave their keys and values; each micro-batch of responses attends to copies of them. Going
back, every micro-batch adds to the gradient of the keys and values, in float32, and when all are done that gradient
goes through the prompts, once. Nothing is approximated: the sum is the one of the whole sequences, in another order.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from trainer.models import Policy, autocast, backward, position_ids
from trainer.sequences import PromptBatch
from trainer.sharding import is_sharded


def can_share_prompts(policy: Policy) -> bool:
    """Whether all that a prompt leaves to its responses is the keys and values of each of its tokens: not for sliding
    windows, which forget some, nor for recurrent states."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=policy.model.config).layers)


def shared_prompt_states(
    policy: Policy, batch: PromptBatch, responses: Sequence[Sequence[int]], compute_dtype: torch.dtype
) -> Iterator[tuple[list[int], Tensor]]:
    """For each micro-batch its rollouts and the hidden states that predict their tokens, packed [tokens, D].

    With gradients on, `backward` must be done with a micro-batch before the next is asked for. An empty micro-batch, or
    one without prompts, has no states and makes its passes all the same: other ranks wait for them.
    """
    # Responses of one token have no pass of their own, but those of another rank may.
    narrowest = 1 if is_sharded(policy) else 0
    cache, mask, last_states = _prompt_pass(policy, batch.prompts, compute_dtype)
    left = [last_states, *(part for layer in _layers(cache) for part in _keys_and_values(layer))]
    # Leaves of a graph of their own, in float32 so that the many small gradients of bfloat16 passes add up unrounded.
    leaves = [part.detach().float().requires_grad_(part.requires_grad) for part in left]

    def states(rollouts: list[int]) -> Tensor:
        # A function of its own: the copies for the rollouts are not held while whoever asked goes back through them.
        rows = torch.tensor([batch.row[rollout] for rollout in rollouts] or [0], device=policy.device)
        taken = [leaf[rows].to(part.dtype) for leaf, part in zip(leaves, left, strict=True)]
        chosen = [responses[rollout] for rollout in rollouts] or [()]
        # Nobody keeps the filled cache: what is added to it is the layers' to keep, or to compute again.
        filled = _filled(cache, taken[1:])
        return _response_pass(policy, chosen, mask[rows], filled, taken[0], compute_dtype, narrowest)

    for rollouts in batch.micro_batches:
        yield rollouts, states(rollouts)
    reached = [
        (part, leaf.grad.to(part.dtype)) for part, leaf in zip(left, leaves, strict=True) if leaf.grad is not None
    ]
    if reached:
        backward([part for part, _ in reached], [gradient for _, gradient in reached])


def _prompt_pass(
    policy: Policy, prompts: Sequence[Sequence[int]], compute_dtype: torch.dtype
) -> tuple[DynamicCache, Tensor, Tensor]:
    """The prompts' cache, their mask [prompts, P] (padded on the left, so that every response begins at the same
    column), and the last hidden state of each [prompts, D], which predicts the first token of its responses."""
    prompts = prompts or [(policy.pad_id,)]
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), width), policy.pad_id, dtype=torch.int64)
    mask = torch.zeros((len(prompts), width), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.int64)
        mask[row, width - len(prompt) :] = 1
    mask = mask.to(policy.device)
    cache = DynamicCache(config=policy.model.config)
    with autocast(policy.device, compute_dtype):
        hidden = policy.hidden_states(input_ids.to(policy.device), mask, position_ids(mask), cache)
    return cache, mask, hidden[:, -1]


def _response_pass(
    policy: Policy,
    responses: Sequence[Sequence[int]],
    prompt_mask: Tensor,
    cache: DynamicCache,
    first_states: Tensor,
    compute_dtype: torch.dtype,
    narrowest: int,
) -> Tensor:
    """Hidden states that predict the responses' tokens, packed [tokens, D]: the first is the prompt's last state, the
    others come from the response but for its last token, which predicts nothing. The pass is at least `narrowest`
    tokens wide."""
    lengths = torch.tensor([len(response) for response in responses])
    width = max(int(lengths.max()) - 1, narrowest)
    states = first_states[:, None]
    if width:
        input_ids = torch.full((len(responses), width), policy.pad_id, dtype=torch.int64)
        for row, response in enumerate(responses):
            fed = response[:-1]
            input_ids[row, : len(fed)] = torch.tensor(fed, dtype=torch.int64)
        fed_mask = (torch.arange(width) < lengths[:, None] - 1).to(policy.device, torch.int64)
        mask = torch.cat([prompt_mask, fed_mask], dim=1)
        with autocast(policy.device, compute_dtype):
            hidden = policy.hidden_states(input_ids.to(policy.device), mask, position_ids(mask)[:, -width:], cache)
        states = torch.cat([states, hidden.to(states.dtype)], dim=1)
    return states[(torch.arange(width + 1) < lengths[:, None]).to(policy.device)]


def _filled(cache: DynamicCache, keys_and_values: Sequence[Tensor]) -> DynamicCache:
    """A cache of the same kind that holds these keys and values, layer by layer; the one given stays as it is."""
    filled = copy.copy(cache)
    filled.layers = [copy.copy(layer) for layer in cache.layers]
    for index, layer in enumerate(_layers(filled)):
        layer.keys, layer.values = keys_and_values[2 * index : 2 * index + 2]
    return filled


def _layers(cache: DynamicCache) -> list[DynamicLayer]:
    layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    if len(layers) < len(cache.layers):
        raise ValueError("the model keeps more of a prompt than keys and values")
    return layers


def _keys_and_values(layer: DynamicLayer) -> tuple[Tensor, Tensor]:
    """Each [prompts, heads, P, head dim]."""
    if layer.keys is None or layer.values is None:
        raise ValueError("the prompts have not been through the model")
    return layer.keys, layer.values
