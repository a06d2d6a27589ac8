"""Prompts with their responses, and how they are cut into micro-batches under a token budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

PROMPT_SHARE = 4
"""Prompts that are computed together take at most 1 / PROMPT_SHARE of the budget; the rest is their responses'."""


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


@dataclass(frozen=True)
class PromptBatch:
    """Different prompts that go through the model together, and micro-batches of their responses."""

    prompts: list[tuple[int, ...]]
    row: dict[int, int]
    """Rollout -> its prompt's place in `prompts`."""
    micro_batches: list[list[int]]
    """Rollouts, those with the longest responses first."""


def whole_batches(sequences: Sequences, max_tokens: int) -> Iterator[list[int]]:
    """Rollouts, longest first, in batches whose padded size, prompts included, is at most `max_tokens`.

    Every batch holds at least one rollout, however long. Rollouts without a response are left out.
    """
    lengths = [
        len(prompt) + len(response) for prompt, response in zip(sequences.prompts, sequences.responses, strict=True)
    ]
    yield from _batches([i for i in range(len(sequences)) if sequences.responses[i]], lengths, max_tokens)


def prompt_batches(sequences: Sequences, max_tokens: int) -> Iterator[PromptBatch]:
    """Every prompt once, longest first, with its rollouts: the padded prompts and the padded responses of any of their
    micro-batches are together at most `max_tokens`.

    A batch holds at least one prompt, a micro-batch at least one response, however long. Rollouts without a response
    are left out, and prompts that have no other.
    """
    rollouts: dict[tuple[int, ...], list[int]] = {}
    for index, (prompt, response) in enumerate(zip(sequences.prompts, sequences.responses, strict=True)):
        if response:
            rollouts.setdefault(tuple(prompt), []).append(index)
    prompts = list(rollouts)
    lengths = [len(response) for response in sequences.responses]
    for batch in _batches(range(len(prompts)), [len(prompt) for prompt in prompts], max_tokens // PROMPT_SHARE):
        row = {rollout: place for place, i in enumerate(batch) for rollout in rollouts[prompts[i]]}
        left = max_tokens - len(prompts[batch[0]]) * len(batch)
        yield PromptBatch([prompts[i] for i in batch], row, list(_batches(list(row), lengths, left)))


def _batches(indices: Sequence[int], lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """`indices`, longest first, in batches of at least one and of at most `max_tokens` when padded to the longest."""
    batch: list[int] = []
    for index in sorted(indices, key=lambda i: -lengths[i]):
        # Longest first, so the batch's first one decides how wide it is padded.
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def shares(sequences: Sequences, ranks: int) -> list[list[int]]:
    """Which of the sequences each rank computes, in their order: all those of a prompt by the same one; the prompts
    with the most tokens are given out first, each to the rank that has the fewest so far."""
    if ranks == 1:
        return [list(range(len(sequences)))]
    of_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(sequences.prompts):
        of_prompt.setdefault(tuple(prompt), []).append(index)
    tokens = {prompt: len(prompt) + sum(len(sequences.responses[i]) for i in own) for prompt, own in of_prompt.items()}
    share: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for prompt in sorted(of_prompt, key=lambda prompt: -tokens[prompt]):
        rank = load.index(min(load))
        share[rank] += of_prompt[prompt]
        load[rank] += tokens[prompt]
    return [sorted(own) for own in share]


def batches_in_step(plans: Sequence[Sequence[list[int]]]) -> list[list[int]]:
    """The first of the ranks' plans (`whole_batches`), with empty batches at its end where another has more."""
    return [list(own) for own, *_ in zip_longest(*plans, fillvalue=[])]


def prompt_batches_in_step(plans: Sequence[Sequence[PromptBatch]]) -> list[PromptBatch]:
    """The first of the ranks' plans (`prompt_batches`), with empty batches and micro-batches where another has more."""
    batches = []
    for own, *others in zip_longest(*plans, fillvalue=PromptBatch([], {}, [])):
        most = max(len(each.micro_batches) for each in (own, *others))
        empty: list[list[int]] = [[] for _ in range(most - len(own.micro_batches))]
        batches.append(PromptBatch(own.prompts, own.row, own.micro_batches + empty))
    return batches


def packed_positions(lengths: Tensor) -> tuple[Tensor, ...]:
    """For each sequence the places of its tokens in a packed tensor: int64 Tensor[lengths[i]] each."""
    return torch.split(torch.arange(int(lengths.sum())), lengths.tolist())
