"""In which order a run goes through its prompts: shuffled anew each epoch, and resumable to the prompt.

The order is a pure function of the seed and the epoch, and the cursor is one number, how many prompts were drawn so
far: a resumed run can neither skip nor double a prompt. Indices only; what they point at is `trainer.prompts`.
"""

import random


def epoch_order(size: int, seed: int, epoch: int) -> list[int]:
    """A permutation of range(size), the same on every machine and Python version."""
    # random() is the one method whose sequence Python promises to keep; shuffle() is not.
    generator = random.Random(f"{seed}/{epoch}")  # noqa: S311 - reproducible, not secret
    keys = [generator.random() for _ in range(size)]
    return sorted(range(size), key=keys.__getitem__)


class SamplingOrder:
    """Draws prompt indices without end. A step that meets the end of an epoch goes on into the next one, so every
    step is full, and a data set smaller than a step is gone through several times in it."""

    def __init__(self, size: int, prompts_per_step: int, seed: int) -> None:
        if size < 1 or prompts_per_step < 1:
            raise ValueError(f"size and prompts_per_step must be at least 1, got {size} and {prompts_per_step}")
        self._size = size
        self._prompts_per_step = prompts_per_step
        self._seed = seed
        self._drawn = 0
        self._order_epoch = -1
        self._order: list[int] = []

    @property
    def prompts_drawn(self) -> int:
        return self._drawn

    @property
    def epoch(self) -> float:
        """How often the data set was gone through: 1.25 is a quarter into the second epoch."""
        return self._drawn / self._size

    def next_step(self) -> list[int]:
        """The indices of the next step, exactly `prompts_per_step` of them."""
        return self.take(self._prompts_per_step)

    def take(self, count: int) -> list[int]:
        """The next `count` indices, beyond those of a step too: what dynamic sampling refills with."""
        if count < 0:
            raise ValueError(f"count must not be negative, got {count}")
        indices: list[int] = []
        while len(indices) < count:
            epoch, offset = divmod(self._drawn, self._size)
            if epoch != self._order_epoch:
                self._order, self._order_epoch = epoch_order(self._size, self._seed, epoch), epoch
            taken = self._order[offset : offset + count - len(indices)]
            indices += taken
            self._drawn += len(taken)
        return indices

    def state_dict(self) -> dict[str, int]:
        return {"prompts_drawn": self._drawn, "size": self._size, "seed": self._seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken. ValueError when it belongs to other data or another seed. Another
        `prompts_per_step` is fine."""
        for name, own in (("size", self._size), ("seed", self._seed)):
            if state[name] != own:
                raise ValueError(f"the saved sampling order has {name} {state[name]}, this run has {own}")
        if state["prompts_drawn"] < 0:
            raise ValueError(f"prompts_drawn must not be negative, got {state['prompts_drawn']}")
        self._drawn = state["prompts_drawn"]
