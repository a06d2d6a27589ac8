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

    memory_bytes: int | None = None
    """Of an engine with processes of its own the most that one of them has held; None without any."""

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

    def weights_changed(self) -> None:
        """The policy's weights are no longer those of the last call: the next one samples from the new ones."""
        ...


def check_request(
    prompts: Sequence[Sequence[int]], samples_per_prompt: int, temperature: float, max_new_tokens: int
) -> None:
    """ValueError for what no engine can generate."""
    if samples_per_prompt < 1 or max_new_tokens < 1 or not 0 <= temperature < float("inf"):
        raise ValueError(
            "samples_per_prompt and max_new_tokens must be at least 1 and temperature a finite number from 0, got "
            f"{samples_per_prompt}, {max_new_tokens} and {temperature}"
        )
    empty = [index for index, prompt in enumerate(prompts) if not len(prompt)]
    if empty:
        raise ValueError(f"prompt {empty[0]} is empty; a model continues at least one token")
