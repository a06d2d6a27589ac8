"""The training forward pass: for every response token its log-prob and the entropy of the distribution it came from.

The rollouts of a prompt share it: a prompt goes through the model once, and its key-value cache serves all of its
responses, forward and backward (`trainer.shared_prompts`). Models whose cache cannot be shared see every rollout whole.

What comes out is packed (one entry per response token, rollouts one after another), so that nothing downstream ever
sees padding. Which tokens are responses follows from the lengths, never from comparing with a pad id, which may be an
EOS.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.logprobs import token_logprobs_and_entropy
from trainer.models import Policy, autocast, position_ids
from trainer.ranks import ALONE, World
from trainer.sequences import (
    Sequences,
    batches_in_step,
    packed_positions,
    prompt_batches,
    prompt_batches_in_step,
    shares,
    whole_batches,
)
from trainer.sharding import is_sharded, whole
from trainer.shared_prompts import can_share_prompts, shared_prompt_states


class Statistics(NamedTuple):
    """Of the response tokens of some rollouts, packed in the order of `rollouts`: float32 [sum of their lengths]."""

    rollouts: list[int]
    logp: Tensor
    entropy: Tensor
    """In nats, of the full vocabulary's distribution at the sampling temperature."""


def response_statistics(
    policy: Policy,
    sequences: Sequences,
    temperature: float,
    compute_dtype: torch.dtype,
    max_tokens: int,
    beside: Sequence[Sequences] = (),
) -> Iterator[Statistics]:
    """Log-prob and entropy of every response token, a micro-batch at a time, on the policy's device.

    `max_tokens` bounds the tokens of one pass, padding included. With gradients on, whoever iterates must be done with
    `backward` on what was yielded before asking for more: the gradients of the shared prompts are added up on the way.

    beside: what each of the other ranks computes at the same time with its part of the same weights. Some of the
    micro-batches are then empty, so that all ranks have as many.
    """
    for rollouts, states in _states(policy, [sequences, *beside], compute_dtype, max_tokens):
        targets = torch.tensor([token for i in rollouts for token in sequences.responses[i]], dtype=torch.int64)
        with autocast(policy.device, compute_dtype):
            logp, entropy = token_logprobs_and_entropy(
                # A final norm may give float32 under autocast; the product with the head is to be in the compute dtype.
                states.to(compute_dtype),
                policy.lm_head_weight,
                targets.to(policy.device),
                temperature,
                add_to_grad=True,
            )
        yield Statistics(rollouts, logp.float(), entropy.float())


@contextmanager
def weights_cast_once(policy: Policy, compute_dtype: torch.dtype) -> Iterator[None]:
    """Within it all passes share one copy of each weight in the compute dtype, instead of making their own.

    The weights must not change meanwhile. Those that are spread over ranks are still made whole for each pass: a kept
    copy would be what spreading them saves.
    """
    with nullcontext() if is_sharded(policy) else autocast(policy.device, compute_dtype):
        yield


@torch.no_grad()
def score(
    policy: Policy,
    sequences: Sequences,
    temperature: float,
    compute_dtype: torch.dtype,
    max_tokens: int,
    world: World = ALONE,
) -> tuple[Tensor, Tensor]:
    """Log-prob and entropy of every response token under the present weights, without gradients.

    Packed in the order of the sequences, [sum of response lengths], float32 on the CPU. Each rank computes its share of
    the sequences, which are the same on all of them, and has them all in the end.
    """
    lengths = sequences.response_lengths
    logp = torch.zeros(int(lengths.sum()))
    entropy = torch.zeros(int(lengths.sum()))
    positions = packed_positions(lengths)
    own = shares(sequences, world.size)[world.rank]
    with whole(policy), weights_cast_once(policy, compute_dtype):
        for part in response_statistics(policy, sequences.select(own), temperature, compute_dtype, max_tokens):
            where = torch.cat([positions[own[i]] for i in part.rollouts])
            logp[where] = part.logp.cpu()
            entropy[where] = part.entropy.cpu()
    world.meet()
    return world.sum(logp), world.sum(entropy)


def _states(
    policy: Policy, of_ranks: Sequence[Sequences], compute_dtype: torch.dtype, max_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Micro-batches of the first rank's rollouts with the hidden states that predict their response tokens, packed
    [tokens, D]; as many as the rank that has the most needs."""
    sequences = of_ranks[0]
    if can_share_prompts(policy):
        for batch in prompt_batches_in_step([list(prompt_batches(each, max_tokens)) for each in of_ranks]):
            yield from shared_prompt_states(policy, batch, sequences.responses, compute_dtype)
    else:
        for rollouts in batches_in_step([list(whole_batches(each, max_tokens)) for each in of_ranks]):
            yield rollouts, whole_sequence_states(policy, sequences.select(rollouts), compute_dtype)


def whole_sequence_states(policy: Policy, sequences: Sequences, compute_dtype: torch.dtype) -> Tensor:
    """Hidden states that predict the response tokens, packed [tokens, D]: prompt and response of each rollout in one
    row, padded on the right. Of no rollouts there are no states, and a pass all the same."""
    if not len(sequences):
        sequences = Sequences([[policy.pad_id]], [[]])
    totals = [len(p) + len(r) for p, r in zip(sequences.prompts, sequences.responses, strict=True)]
    width = max(totals)
    device = policy.device
    input_ids = torch.full((len(sequences), width), policy.pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(sequences), width), dtype=torch.int64)
    # The hidden state at position t predicts token t + 1: a response of length R behind a prompt of length P is
    # predicted by positions P - 1 .. P + R - 2.
    predicts_response = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(sequences.prompts, sequences.responses, strict=True)):
        input_ids[row, : totals[row]] = torch.tensor([*prompt, *response], dtype=torch.int64)
        attention_mask[row, : totals[row]] = 1
        predicts_response[row, len(prompt) - 1 : totals[row] - 1] = True
    attention_mask = attention_mask.to(device)
    with autocast(device, compute_dtype):
        hidden = policy.hidden_states(input_ids.to(device), attention_mask, position_ids(attention_mask))
    return hidden[predicts_response.to(device)]
