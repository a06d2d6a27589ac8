"""What every engine offers to the loop: `generate`, its result, and counters of the work done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Generation:
    """One sampled response.

    token_ids: the response alone, with the EOS that ended it, if one did. logprobs: for each of them, in nats, the
    log-prob under the distribution it was sampled from (full vocabulary, at the sampling temperature).
    truncated: max_new_tokens came before any EOS.
    """

    prompt_index: int
    sample_index: int
    token_ids: list[int]
    logprobs: list[float]
    truncated: bool


@dataclass
class Counters:
    """Running totals since the engine was made. Tokens do not include padding."""

    prefill_passes: int = 0
    decode_passes: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0


class Engine(Protocol):
    """Samples from the policy's current weights."""

    counters: Counters

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        samples_per_prompt: int,
        temperature: float,
        max_new_tokens: int,
        seed: tuple[int, ...],
    ) -> list[Generation]:
        """`samples_per_prompt` responses to each prompt (token ids), ordered by prompt, then sample.

        temperature 0 takes the likeliest token each time; the log-probs are then 0. seed: integers, such as
        (run's seed, step); the same seed, prompts and weights give the same responses.
        ValueError for an empty prompt or arguments out of range.
        """
        ...
