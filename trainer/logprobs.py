"""Log-prob and true entropy of each token's distribution, straight from hidden states and the lm head.

The logits of a batch, [N, V], are never built: with 150,000 words they would outweigh the model. They are made in
tiles of tokens x vocabulary, folded into an online softmax, and made again in backward. Owns that arithmetic and its
gradients; which tokens are responses is the caller's business.

Shapes: N tokens, V vocabulary, D hidden size, n and v their parts within a tile.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.bfloat16_products import bfloat16_products

TILE_ELEMENTS_CPU = 2**20
"""Logits in a tile: 4 MiB in float32, which stay in the caches between the dozen operations on them, and in memory that
the allocator has at hand: one of 32 MiB is twice as slow."""
TILE_ELEMENTS_GPU = 2**26
"""256 MiB in float32: large enough to fill the device, small beside its memory."""


def token_logprobs_and_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, *, add_to_grad: bool = False
) -> tuple[Tensor, Tensor]:
    """log pi(target) and H(pi) = -sum_v pi_v log pi_v with pi = softmax(hidden @ weight.T / temperature).

    hidden: [N, D], floating point. weight: [V, D], the lm head. targets: int [N] in [0, V). temperature > 0.
    Returns (logp, entropy), each [N], in nats: float64 when `hidden` is float64, else float32. Both are
    differentiable in `hidden` and `weight`, once.

    The products' operands are rounded to the dtype of `hidden` (as autocast rounds a float32 weight for a bfloat16
    pass); everything after that, sums of products included, is float32 or better, under autocast too. Gradients are
    accumulated in float32 and rounded once, to the dtype of what they belong to. logp <= 0 <= entropy always.

    add_to_grad: for whoever calls `backward` and nothing else: where `weight` is a leaf that has a gradient already,
    its part is added there on the way and not made first as a tensor of its own, as large as the head.

    ValueError for shapes that do not fit together, targets outside the vocabulary, a temperature that is not above 0.
    """
    _check(hidden, weight, targets, temperature)
    with torch.autocast(hidden.device.type, enabled=False):
        logp, entropy = _TiledLogprobs.apply(hidden, weight, targets, temperature, add_to_grad)  # type: ignore[no-untyped-call]
    return logp, entropy


class Tile(NamedTuple):
    """How many tokens and how many vocabulary entries are worked on at once."""

    tokens: int
    vocab: int


def tile_for(tokens: int, vocab: int, elements: int) -> Tile:
    """The tile of at most `elements` logits for N tokens and V vocabulary entries (at least one of each).

    Near square, as matrix products like best; a side that the data leave short gives its room to the other.
    """
    side = 2 ** (max(elements, 1).bit_length() // 2)
    n = max(1, min(tokens, side))
    v = max(1, min(vocab, elements // n))
    return Tile(max(1, min(tokens, elements // v)), v)


def _tile_elements(device: torch.device) -> int:
    return TILE_ELEMENTS_CPU if device.type == "cpu" else TILE_ELEMENTS_GPU


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden [N, D] and weight [V, D] must share D, got {tuple(hidden.shape)} and {tuple(weight.shape)}"
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets must be [{hidden.shape[0]}], got {tuple(targets.shape)}")
    if not (hidden.is_floating_point() and weight.is_floating_point()):
        raise ValueError(f"hidden and weight must be floating-point, got {hidden.dtype} and {weight.dtype}")
    if targets.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"targets must be int64 or int32, got {targets.dtype}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
    if len(targets) and not (int(targets.min()) >= 0 and int(targets.max()) < weight.shape[0]):
        raise ValueError(
            f"targets must lie in [0, {weight.shape[0]}), got {int(targets.min())} to {int(targets.max())}"
        )


@dataclass(frozen=True)
class _Softmax:
    """The online softmax of N tokens over the part of the vocabulary seen so far."""

    max: Tensor
    """[N] m, the largest logit."""
    sum: Tensor
    """[N] s = sum_v exp(l_v - m)."""
    weighted: Tensor
    """[N] t = sum_v exp(l_v - m) (l_v - m), so that H = log s - t / s: no cancellation, never below 0."""
    target: Tensor
    """[N] the target's logit."""

    @classmethod
    def empty(cls, tokens: int, dtype: torch.dtype, device: torch.device) -> "_Softmax":
        zeros = torch.zeros(3, tokens, dtype=dtype, device=device)
        return cls(torch.full_like(zeros[0], float("-inf")), zeros[0], zeros[1], zeros[2])

    def fold(self, rows: slice, columns: slice, logits: Tensor, scratch: Tensor, targets: Tensor) -> None:
        """Take in the logits [n, v] of the tokens `rows` and the vocabulary's `columns`; overwrites both buffers."""
        local, here = _within(targets[rows], columns)
        self.target[rows] = torch.where(here, logits.gather(1, local[:, None])[:, 0], self.target[rows])

        m, s, t = self.max[rows], self.sum[rows], self.weighted[rows]
        new_max = torch.maximum(m, logits.amax(1))
        # Before the first tile there is nothing to rescale: s = 0, and -inf - m would make 0 * inf of t.
        shift = torch.where(s > 0, m - new_max, 0.0)
        scale = shift.exp()
        below_max = logits.sub_(new_max[:, None])
        mass = torch.exp(below_max, out=scratch)
        s_tile = mass.sum(1)
        t_tile = mass.mul_(below_max).sum(1)
        self.weighted[rows] = scale * (t + s * shift) + t_tile
        self.sum[rows] = s * scale + s_tile
        self.max[rows] = new_max


class _TiledLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's context, to which torch itself gives no type
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        add_to_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        softmax = _Softmax.empty(len(hidden), _math_dtype(hidden), hidden.device)
        for columns, _, column_tiles in _tiles(hidden, weight, temperature):
            for rows, _, logits, scratch in column_tiles:
                softmax.fold(rows, columns, logits, scratch, targets)
        log_sum = softmax.sum.log()
        logp = softmax.target - softmax.max - log_sum
        entropy = log_sum - softmax.weighted / softmax.sum
        ctx.save_for_backward(hidden, weight, targets, softmax.max, log_sum, entropy)
        ctx.temperature, ctx.add_to_grad = temperature, add_to_grad
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_logp: Tensor | None,
        grad_entropy: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, targets, max_logit, log_sum, entropy = ctx.saved_tensors
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        if grad_logp is None and grad_entropy is None:
            return None, None, None, None, None
        # With z = l - m and p = exp(z) / s:
        #   d logp / d l_v = [v = target] - p_v        d H / d l_v = -p_v (log p_v + H),  log p_v = z - log s
        # so the gradient at l_v is [v = target] g_logp - exp(z) (a + b z) with two numbers a, b per token.
        g_logp = torch.zeros_like(entropy) if grad_logp is None else grad_logp.to(entropy.dtype)
        inverse_sum = (-log_sum).exp()
        a, b = g_logp * inverse_sum, None
        if grad_entropy is not None:
            b = grad_entropy.to(entropy.dtype) * inverse_sum
            a = a + b * (entropy - log_sum)
        # The minus sign and the 1 / temperature between logits and product are left to the products below.
        factor = -1.0 / ctx.temperature
        rounded = hidden.dtype == torch.bfloat16

        grad_hidden = torch.zeros_like(hidden, dtype=entropy.dtype) if wants_hidden else None
        added_up = weight.grad if ctx.add_to_grad and wants_weight and weight.is_leaf else None
        grad_weight = torch.zeros_like(weight) if wants_weight and added_up is None else added_up
        with torch.autocast(hidden.device.type, enabled=False):
            for columns, w, column_tiles in _tiles(hidden, weight, ctx.temperature):
                # One part of the weight is complete before the next begins, so a bfloat16 weight needs a float32
                # sum of one tile's height only.
                part = None if grad_weight is None else grad_weight[columns].to(entropy.dtype)
                for rows, h, logits, scratch in column_tiles:
                    below_max = logits.sub_(max_logit[rows, None])
                    grad_logits = torch.exp(below_max, out=scratch)
                    if b is None:
                        grad_logits.mul_(a[rows, None])
                    else:
                        grad_logits.mul_(torch.addcmul(a[rows, None], below_max, b[rows, None], out=below_max))
                    local, here = _within(targets[rows], columns)
                    grad_logits.scatter_add_(1, local[:, None], torch.where(here, -g_logp[rows], 0.0)[:, None])
                    for gradient in _unrounded(grad_logits, spare=logits) if rounded else [grad_logits]:
                        if grad_hidden is not None:
                            _add_product(grad_hidden[rows], gradient, w, factor, rounded)
                        if part is not None:
                            _add_product(part, gradient.t(), h, factor, rounded)
                if grad_weight is not None and part is not None and part.dtype != grad_weight.dtype:
                    grad_weight[columns] = part
        grad_hidden = None if grad_hidden is None else grad_hidden.to(hidden.dtype)
        return grad_hidden, grad_weight if added_up is None else None, None, None, None


def _math_dtype(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _within(targets: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Where the targets [n] stand within a tile of the vocabulary (clamped into it), and bool [n] whether they do."""
    local = targets.long() - columns.start
    last = columns.stop - columns.start - 1
    return local.clamp(0, last), (local >= 0) & (local <= last)


_TokenTiles = Iterator[tuple[slice, Tensor, Tensor, Tensor]]


def _tiles(hidden: Tensor, weight: Tensor, temperature: float) -> Iterator[tuple[slice, Tensor, _TokenTiles]]:
    """For each part of the vocabulary: (columns, its weight [v, D], its tiles by tokens).

    Each of those: (rows, hidden [n, D], logits / temperature [n, v], scratch of that shape). The last two are buffers
    that the next tile overwrites.
    """
    math = _math_dtype(hidden)
    # A GPU multiplies bfloat16 with float32 sums; a CPU does with float32 copies, see `bfloat16_products`.
    kept = torch.bfloat16 if hidden.is_cuda and hidden.dtype == torch.bfloat16 else math
    products = bfloat16_products if hidden.dtype == torch.bfloat16 else nullcontext
    tile = tile_for(len(hidden), len(weight), _tile_elements(hidden.device))
    buffers = torch.empty(2, tile.tokens * tile.vocab, dtype=math, device=hidden.device)

    def by_tokens(w: Tensor) -> _TokenTiles:
        for start in range(0, len(hidden), tile.tokens):
            rows = slice(start, min(start + tile.tokens, len(hidden)))
            h = hidden[rows].to(kept)
            logits, scratch = buffers[:, : len(h) * len(w)].view(2, len(h), len(w))
            if kept == math:
                with products(hidden.device):
                    torch.addmm(logits, h, w.t(), beta=0, alpha=1.0 / temperature, out=logits)
            else:
                torch.mm(h, w.t(), out_dtype=math, out=logits).mul_(1.0 / temperature)
            yield rows, h, logits, scratch

    for start in range(0, len(weight), tile.vocab):
        columns = slice(start, min(start + tile.vocab, len(weight)))
        w = weight[columns].to(hidden.dtype).to(kept)
        yield columns, w, by_tokens(w)


def _unrounded(gradient: Tensor, spare: Tensor) -> Iterator[Tensor]:
    """Factors for bfloat16 products that add up to the one with `gradient`; overwrites both buffers.

    Rounding every tile's gradient to bfloat16 would bias the update (entropy drifts over some dozen steps), and a
    float32 product is slow: the rounded value and what the rounding left hold 16 bits between them. On a CPU each is
    given in float32 (`bfloat16_products`).
    """
    rounded = spare.view(-1).view(torch.bfloat16)[: gradient.numel()].view_as(gradient).copy_(gradient)
    gradient.sub_(rounded)
    if gradient.is_cuda:
        yield rounded
        yield rounded.copy_(gradient)
    else:
        yield gradient
        yield gradient.copy_(rounded)


def _add_product(total: Tensor, gradient: Tensor, operand: Tensor, factor: float, rounded: bool) -> None:
    """total += factor * gradient @ operand, summed in the dtype of `total`.

    rounded: the operand's values are bfloat16's, whatever its dtype, and the gradient is to be rounded too.
    """
    if gradient.dtype != total.dtype:
        torch.addmm(total, gradient, operand, alpha=factor, out_dtype=total.dtype, out=total)
        return
    with bfloat16_products(total.device) if rounded else nullcontext():
        total.addmm_(gradient, operand, alpha=factor)
