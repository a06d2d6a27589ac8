"""What is drawn, and what draws it: by the policy's own transformers model (batch.py), or by vLLM (vllm_batch.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from trainer.spec.job import EngineName


@dataclass(frozen=True)
class Sample:
    """One sample to be drawn."""

    request: str
    index: int
    """Among the samples of its request."""
    place: tuple[int, int]
    """(prompt, sample of the prompt): with the seed it says which random numbers are its own."""
    prompt: tuple[int, ...]
    """Token ids, at least one."""
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    logprobs: int | None
    """With its tokens' log-probs, and those of so many others; None: without."""


@dataclass(frozen=True)
class Drawn:
    """A token of a sample."""

    sample: Sample
    token_id: int
    logprob: float | None
    """Of the model itself: temperature 1, the whole vocabulary. None where it was not asked for."""
    likely: list[tuple[int, float]]
    """(token id, log-prob) of the likeliest."""
    ended: bool
    """It is an end-of-sequence token, and no part of the text."""
    last: bool
    """Nothing follows it."""


class Drawing(Protocol):
    """Draws tokens for many samples at once. Samples may join and leave between any two steps."""

    engine: ClassVar[EngineName]

    @property
    def positions(self) -> int:
        """The most tokens, prompt and answer, that a sample may come to."""

    @property
    def idle(self) -> bool:
        """There is nothing to draw."""

    def add(self, samples: Sequence[Sample]) -> None: ...

    def drop(self, request: str, index: int | None = None) -> None:
        """Draw no more of a request's samples, or of one of them."""

    def clear(self) -> None:
        """Forget everything, after an error in the middle of a step."""

    def step(self) -> list[Drawn]:
        """What comes next of the samples, no more than a token of each, maybe of none. FloatingPointError when the
        model computes NaN; torch.OutOfMemoryError; EngineError when the engine broke for good."""
