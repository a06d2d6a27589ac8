"""From logits to a token where every row has a temperature and a top_p of its own."""

import torch
from torch import Tensor

from trainer.engines.sampling import sample


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """One token id per row: logits float32 [N, V]; temperature, top_p float32 [N]; uniform float64 [N] in [0, 1).

    Temperature 0 takes the likeliest. FloatingPointError for logits that are NaN or infinite.
    """
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, torch.ones_like(temperature), temperature)[:, None]
    if bool((top_p < 1).any()):
        scaled = scaled.masked_fill(_beyond(scaled, top_p), -torch.inf)
    tokens, _ = sample(scaled, 1.0, uniform)
    return torch.where(greedy, logits.argmax(dim=-1), tokens)


def _beyond(scaled: Tensor, top_p: Tensor) -> Tensor:
    """Which tokens [N, V] are not among the likeliest that together have top_p of the probability."""
    ordered, places = scaled.softmax(dim=-1).sort(dim=-1, descending=True)
    # What stands before a token: the likeliest one always stays.
    before = ordered.cumsum(dim=-1) - ordered
    cut = (before >= top_p[:, None]) & (top_p < 1)[:, None]
    return torch.zeros_like(cut).scatter(1, places, cut)
