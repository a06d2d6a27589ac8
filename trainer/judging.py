"""From sampled responses to verdicts, for training and evaluation alike."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from pydantic import JsonValue

from trainer.engines import Generation
from trainer.prompts import Prompt
from trainer.ranks import World
from trainer.rewards import Verdict, VerifyItem


class Verifier(Protocol):
    """A `VerifierPool`, or the pools of all ranks as one."""

    def score(self, items: Sequence[VerifyItem]) -> list[Verdict]:
        """A verdict for each item, in their order."""
        ...


class DividedVerifier:
    """The verifiers of all ranks as one."""

    def __init__(self, verifier: Verifier, world: World) -> None:
        self._verifier = verifier
        self._world = world

    def score(self, items: Sequence[VerifyItem]) -> list[Verdict]:
        """A verdict for each item, in their order. Every rank gives the same items and gets the same verdicts."""
        rank, size = self._world.rank, self._world.size
        own = [
            [each.reward, each.error, each.seconds, each.message] for each in self._verifier.score(items[rank::size])
        ]
        parts = self._world.gather_json(cast("list[JsonValue]", own))
        return [Verdict(*cast("list[list[list[Any]]]", parts)[i % size][i // size]) for i in range(len(items))]


def judge(
    verifier: Verifier,
    decode: Callable[[Sequence[int]], str],
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
) -> tuple[list[str], list[Verdict]]:
    """Text and verdict of each generation, in their order; `prompts` are those they were generated from."""
    texts = [decode(generation.token_ids) for generation in generations]
    asked = [prompts[generation.prompt_index] for generation in generations]
    items = [
        VerifyItem(text, prompt.answer, prompt.kind, prompt.options, prompt.question, prompt.metadata)
        for text, prompt in zip(texts, asked, strict=True)
    ]
    return texts, verifier.score(items)
