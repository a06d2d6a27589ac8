"""What one measured step is. Both sides read this one object, so neither can be given an easier task."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

NO_TOKEN = -1
"""The end-of-sequence id of fixed lengths: one that is never sampled, so both sides compare as always and never end."""


@dataclass(frozen=True)
class Workload:
    """GRPO as both sides can do it: no KL term, clip 0.2 / 0.2, loss averaged over tokens, AdamW on float32 weights,
    one update per step on the rollouts sampled by the weights it begins with. Paths are absolute."""

    model: str
    """Folder of a transformers model with its tokenizer."""
    asym_data: str
    """JSON lines of problems: {"question", "answer"}."""
    trl_data: str
    """The same problems in the order in which our side draws them (a seeded permutation)."""
    steps: int
    """Warm-up and measured steps together."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What passes compute in; bfloat16 is autocast over float32 weights on both sides."""
    prompts: int = 4
    group_size: int = 8
    new_tokens: int = 64
    natural_lengths: bool = False
    """Whether a response may end before `new_tokens`. Then the two sides sample different amounts of work."""
    system_prompt: str | None = "Solve the problem step by step, in a few short sentences."
    max_prompt_tokens: int = 512
    temperature: float = 1.0
    clip: float = 0.2
    learning_rate: float = 2.0e-6
    max_grad_norm: float = 1.0
    threads: int = 1
    seed: int = 0

    asym_diagnostics_every: int = 1
    """1 measures the entropy change at every step, which costs a third pass; the product's default is 10; 0 is off."""
    micro_batch: int = 8
    """Rollouts in one forward and backward pass: exactly so in TRL, as many of the longest length here."""
    asym_max_tokens: int = 16384
    """What our trainer is told instead: padded tokens in a micro-batch."""
    trl_gradient_checkpointing: bool = False
    """TRL's own default is True: less memory, more time."""
    trl_weights: Literal["float32", "bfloat16"] = "float32"
    """float32 is TRL's default and the same optimizer as ours; bfloat16 halves weights, gradients and moments, and
    loses most updates of this size to rounding."""

    def __post_init__(self) -> None:
        if self.rollouts % self.micro_batch:
            raise ValueError(f"micro_batch ({self.micro_batch}) must divide the step's {self.rollouts} rollouts")

    @property
    def rollouts(self) -> int:
        return self.prompts * self.group_size

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))
