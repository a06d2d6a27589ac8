"""How many tokens may go through the model at once: found from the device's memory, halved when it was too many."""

import logging
import os
from collections.abc import Callable
from typing import TypeVar

import torch

from trainer.errors import RunError
from trainer.models import Policy
from trainer.ranks import ALONE, OtherRankOutOfMemoryError, World

logger = logging.getLogger(__name__)

T = TypeVar("T")

SMALLEST, LARGEST = 256, 65536
MEMORY_SHARE = 0.25
"""Of the device's memory that a micro-batch's activations may take by the estimate."""
LAYER_BYTES = 34
"""What a decoder layer keeps for its backward pass, per token and unit of hidden size, when elements have 2 bytes:
Korthikanti et al. (arXiv 2205.05198, section 4.1) without attention scores, which are never kept here."""


class TokenBudget:
    """The present budget, the same on all ranks. It only ever shrinks."""

    def __init__(
        self, tokens: int, on_halved: Callable[[int], None] = lambda tokens: None, world: World = ALONE
    ) -> None:
        self.tokens = tokens
        self._on_halved = on_halved
        """Told of each new budget."""
        self._world = world

    def run(self, work: Callable[[int], T], clear_up: Callable[[], None] = lambda: None) -> T:
        """`work(tokens)`, which must be repeatable from its start; again with half as many when the device's memory is
        full, after `clear_up`. RunError `out_of_memory` when `SMALLEST` tokens are still too many.

        All ranks call it together. When the memory of one is full all begin again, for which they meet
        (`World.meet`) at the end of the work and, within it, before whatever needs all of them.
        """
        while True:
            evidence: list[str]
            try:
                done = work(self.tokens)
                self._world.meet()
                return done
            except torch.OutOfMemoryError as error:
                evidence = str(error).splitlines()
                self._world.leave()
            except OtherRankOutOfMemoryError:
                evidence = ["it is another rank's device"]
            # Outside of the except block: the error's traceback holds the tensors of the attempt.
            if self.tokens <= SMALLEST:
                raise RunError(
                    "out_of_memory",
                    f"the device's memory is full even with {self.tokens} tokens at a time; set "
                    "optim.gradient_checkpointing, or lower rollout.max_new_tokens or the size of the model",
                    evidence=evidence,
                )
            clear_up()
            self.tokens = max(SMALLEST, self.tokens // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("the device's memory is full; going on with %d tokens at a time", self.tokens)
            self._on_halved(self.tokens)


def estimated_tokens(policy: Policy, compute_dtype: torch.dtype) -> int:
    """A power of two between `SMALLEST` and `LARGEST`, from the device's whole memory and the model's shape: the same
    whenever one machine starts the same job."""
    config = policy.model.config.get_text_config()
    layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    element_bytes = torch.finfo(compute_dtype).bits // 8
    bytes_per_token = layers * hidden * LAYER_BYTES * element_bytes / 2
    fitting = max(1, int(MEMORY_SHARE * device_memory_bytes(policy.device) / bytes_per_token))
    return min(LARGEST, max(SMALLEST, 1 << (fitting.bit_length() - 1)))


def device_memory_bytes(device: torch.device) -> int:
    """Of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
