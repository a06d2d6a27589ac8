"""The training forward pass: for every response token its log-prob and the entropy of the distribution it came from.

Rollouts are batched by length under a token budget; what comes out is packed (one entry per response token, rollouts
one after another), so that nothing downstream ever sees padding. Which tokens are responses follows from the lengths,
never from comparing with a pad id, which may be an EOS.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.logprobs import token_logprobs_and_entropy
from trainer.models import Policy, autocast, position_ids


@dataclass(frozen=True)
class Sequences:
    """Prompts with their responses, as token ids; `response` may be empty."""

    prompts: Sequence[Sequence[int]]
    responses: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def response_lengths(self) -> Tensor:
        """int64 Tensor[N]."""
        return torch.tensor([len(response) for response in self.responses], dtype=torch.int64)

    def select(self, indices: Sequence[int]) -> "Sequences":
        return Sequences([self.prompts[i] for i in indices], [self.responses[i] for i in indices])


def micro_batches(sequences: Sequences, max_tokens: int) -> Iterator[list[int]]:
    """Indices of the sequences, longest first, in batches whose padded size is at most `max_tokens`.

    Every batch holds at least one sequence, however long. Sequences without a response are left out.
    """
    lengths = [
        len(prompt) + len(response) for prompt, response in zip(sequences.prompts, sequences.responses, strict=True)
    ]
    batch: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: -lengths[i]):
        if not sequences.responses[index]:
            continue
        # Longest first, so the batch's first sequence decides how wide it is padded.
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def response_statistics(
    policy: Policy, sequences: Sequences, temperature: float, compute_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """One forward pass over one micro-batch.

    Returns (log-prob, entropy in nats) of each response token at `temperature` over the full vocabulary, packed
    [sum of response lengths], float32, differentiable in the policy's weights.
    """
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
    targets = torch.tensor([token for response in sequences.responses for token in response], dtype=torch.int64)
    attention_mask = attention_mask.to(device)
    with autocast(device, compute_dtype):
        hidden = policy.hidden_states(input_ids.to(device), attention_mask, position_ids(attention_mask))
        logp, entropy = token_logprobs_and_entropy(
            # A final norm may give float32 under autocast; the product with the head is to be in the compute dtype.
            hidden[predicts_response.to(device)].to(compute_dtype),
            policy.lm_head_weight,
            targets.to(device),
            temperature,
        )
    return logp.float(), entropy.float()


@torch.no_grad()
def score(
    policy: Policy, sequences: Sequences, temperature: float, compute_dtype: torch.dtype, max_tokens: int
) -> tuple[Tensor, Tensor]:
    """Log-prob and entropy of every response token under the present weights, without gradients.

    Packed in the order of the sequences, [sum of response lengths], float32 on the CPU.
    """
    lengths = sequences.response_lengths
    logp = torch.zeros(int(lengths.sum()))
    entropy = torch.zeros(int(lengths.sum()))
    positions = packed_positions(lengths)
    for batch in micro_batches(sequences, max_tokens):
        batch_logp, batch_entropy = response_statistics(policy, sequences.select(batch), temperature, compute_dtype)
        where = torch.cat([positions[i] for i in batch])
        logp[where] = batch_logp.cpu()
        entropy[where] = batch_entropy.cpu()
    return logp, entropy


def packed_positions(lengths: Tensor) -> tuple[Tensor, ...]:
    """For each sequence the places of its tokens in a packed tensor: int64 Tensor[lengths[i]] each."""
    return torch.split(torch.arange(int(lengths.sum())), lengths.tolist())
