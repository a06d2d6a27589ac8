"""Sampling divided over the ranks: each answers its share of the prompts, and all have every response in the end.

A rollout's random numbers belong to its prompt's place among all prompts of the call (`trainer.engines.sampling`), so
who samples it makes no difference.
"""

from collections.abc import Sequence

import torch

from trainer.engines.generation import Counters, Generation
from trainer.engines.hf import HfEngine
from trainer.engines.vllm import VllmEngine
from trainer.ranks import World


class DividedEngine:
    """`trainer.engines.generation.Engine` over the engines of all ranks.

    answering: how many ranks, the first ones, divide the prompts; the others have nothing to answer with.
    """

    def __init__(self, engine: HfEngine | VllmEngine, world: World, *, answering: int) -> None:
        self._engine = engine
        self._world = world
        self._answering = answering
        self.counters: Counters = engine.counters
        """Of this rank's work."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        samples_per_prompt: int,
        temperature: float,
        max_new_tokens: int,
        seed: tuple[int, ...],
    ) -> list[Generation]:
        """See `Engine.generate`. Every rank gives the same arguments and gets the same responses."""
        rank, answering = self._world.rank, self._answering
        own = self._engine.generate(
            prompts,
            samples_per_prompt=samples_per_prompt,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
            only=range(rank, len(prompts), answering) if rank < answering else [],
        )
        generations = [each for part in self._gather(own) for each in part]
        return sorted(generations, key=lambda each: (each.prompt_index, each.sample_index))

    def _gather(self, own: Sequence[Generation]) -> list[list[Generation]]:
        facts = [[each.prompt_index, each.sample_index, int(each.truncated), len(each.token_ids)] for each in own]
        parts = zip(
            self._world.gather(torch.tensor(facts, dtype=torch.int64).reshape(-1, 4)),
            self._world.gather(torch.tensor([token for each in own for token in each.token_ids], dtype=torch.int64)),
            # A log-prob is a float32 in Python's clothes.
            self._world.gather(torch.tensor([logp for each in own for logp in each.logprobs], dtype=torch.float32)),
            strict=True,
        )
        return [_unpacked(*part) for part in parts]

    def weights_changed(self) -> None:
        self._engine.weights_changed()


def _unpacked(facts: torch.Tensor, tokens: torch.Tensor, logprobs: torch.Tensor) -> list[Generation]:
    lengths = facts[:, 3].tolist()
    return [
        Generation(prompt_index, sample_index, token_ids.tolist(), logps.tolist(), bool(truncated))
        for (prompt_index, sample_index, truncated, _), token_ids, logps in zip(
            facts.tolist(), torch.split(tokens, lengths), torch.split(logprobs, lengths), strict=True
        )
    ]
