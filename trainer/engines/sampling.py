"""From logits to tokens. Every rollout has a stream of uniform numbers of its own, one number per token.

The stream is a function of (seed, prompt index, sample index) and nothing else, so how rollouts are batched, which
others there are and when they end cannot change what a rollout draws.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch


def uniforms(seed: tuple[int, ...], rollouts: Sequence[tuple[int, int]], length: int) -> torch.Tensor:
    """Numbers in [0, 1) for each (prompt index, sample index): float64 [rollouts, length], on the CPU.

    Philox is counter-based: the seed makes the key, the rollout chooses the part of the counter where it starts, so
    no two rollouts share a number. A longer stream begins with the shorter one.
    """
    # Hashed as text: numpy's SeedSequence takes (1, 2) and (1, 2, 0) for the same seed.
    digest = hashlib.sha256(",".join(str(int(part)) for part in seed).encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    streams = np.empty((len(rollouts), length))
    for row, (prompt_index, sample_index) in enumerate(rollouts):
        # The lowest two of the four counter words are left to count within the stream.
        counter = np.array([0, 0, sample_index, prompt_index], dtype=np.uint64)
        np.random.Generator(np.random.Philox(counter=counter, key=key)).random(out=streams[row])
    return torch.from_numpy(streams)


def sample(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose one token per row: logits float32 [N, V], uniform float64 [N] -> (token ids [N], log-probs [N]).

    Inverts the cumulative distribution of softmax(logits / temperature), summed in float64 so that the tail is not
    lost. Temperature 0: the likeliest token, log-prob 0. FloatingPointError for logits that are NaN or infinite.
    """
    if temperature == 0:
        highest, tokens = logits.max(dim=-1)
        _require_finite(highest)
        return tokens, torch.zeros_like(highest)
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    cumulative = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1]
    _require_finite(total)
    # Strictly below the total, or rounding could reach past the last token that has any probability.
    threshold = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, threshold[:, None], right=True)
    return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]


def _require_finite(of_each_row: torch.Tensor) -> None:
    if not torch.isfinite(of_each_row).all():
        raise FloatingPointError("the model computes NaN or infinite logits; its weights have diverged")
