"""The arithmetic of `trainer.models.lean_layers`: functions with a backward pass of their own.

Each keeps what it was given and nothing that follows from it, gives its result in the dtype in which it is used, and
sums the gradients of weights in float32, in `weight.grad` itself once there is one: `backward` gives them, and
`torch.autograd.grad` of a weight that has a gradient already would not.

Shapes: N tokens, I inputs, O outputs, B rows, T tokens and S keys of each, H heads of width D.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainer.bfloat16_products import bfloat16_products

SCORES = 2**21
"""Attention scores that are worked on at once in the backward pass: 8 MiB in float32."""

Context = Any
"""Autograd's, to which torch itself gives no type."""


def rms_norm(hidden: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """hidden / sqrt(mean(hidden^2) + eps) * weight over the last dimension, computed in float32, given in `dtype`."""
    if torch.is_grad_enabled():
        normed: Tensor = _RMSNorm.apply(hidden, weight, eps, dtype)  # type: ignore[no-untyped-call]
        return normed
    return (hidden * _inverse_rms(hidden, eps)).mul_(weight).to(dtype)


def _inverse_rms(hidden: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(hidden.float().pow(2).mean(-1, keepdim=True) + eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, hidden: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        inverse = _inverse_rms(hidden, eps)
        ctx.save_for_backward(hidden, weight, inverse)
        return (hidden * inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, inverse = ctx.saved_tensors
        # With n = hidden * inverse and g the gradient:  d weight = sum of g n,
        # d hidden = inverse (g weight - n mean(g n weight)), the mean over the last dimension.
        normed = hidden * inverse
        product = gradient * normed
        grad_weight = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean = (product @ weight).div_(len(weight))[..., None]
        grad_hidden = torch.mul(gradient, weight, out=product).sub_(normed.mul_(mean)).mul_(inverse)
        return grad_hidden.to(hidden.dtype), grad_weight, None, None


def rotated(heads: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    """Rotary positions (arXiv 2104.09864) of queries or keys [B, T, H, D] with the angles' cos and sin [B, T, D], both
    halves of which are the same; given in `dtype`."""
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    if torch.is_grad_enabled():
        turned: Tensor = _Rotation.apply(heads, cos, sin, dtype)  # type: ignore[no-untyped-call]
        return turned
    return _rotate(heads, cos, sin).to(dtype)


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x1 cos - x2 sin and x2 cos + x1 sin of the halves x1, x2 of each head, in the dtype of cos and sin."""
    half = heads.shape[-1] // 2
    turned = heads * cos
    turned[..., :half].addcmul_(heads[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(heads[..., :half], sin[..., half:])
    return turned


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, heads: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = heads.dtype
        return _rotate(heads, cos, sin).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate(gradient, cos, -sin).to(ctx.dtype), None, None, None


def embedded(ids: Tensor, weight: Tensor, padding_id: int | None) -> Tensor:
    """Rows of `weight`, as torch's embedding; the row of `padding_id` gets no gradient."""
    rows: Tensor = _Embedding.apply(ids, weight, padding_id)  # type: ignore[no-untyped-call]
    return rows


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, ids: Tensor, weight: Tensor, padding_id: int | None) -> Tensor:
        ctx.save_for_backward(ids, weight)
        ctx.padding_id = padding_id
        return functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[None, Tensor | None, None]:
        ids, weight = ctx.saved_tensors
        if ctx.padding_id is not None:
            gradient = gradient.masked_fill((ids == ctx.padding_id)[..., None], 0)
        total = _existing_gradient(weight)
        made = torch.zeros_like(weight) if total is None else None
        (total if made is None else made).index_add_(0, ids.flatten(), gradient.flatten(0, -2).to(weight.dtype))  # type: ignore[union-attr]
        return None, made, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias, under autocast in its dtype: [..., I] -> [..., O]. A frozen weight keeps nothing of x."""
    product: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.autocast, ctx.dtype = _autocast_as_now(x.device), x.dtype
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight, bias)
        # Autocast's copy of the weight, of which there is one for all passes (`trainer.forward.weights_cast_once`).
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight, bias = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            with ctx.autocast():
                grad_x = (gradient @ weight).to(ctx.dtype)
        grad_weight = None if x is None else _weight_gradient(weight, gradient, x)
        return grad_x, grad_weight, _bias_gradient(gradient, bias) if ctx.needs_input_grad[2] else None


def gated_product(gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(silu(gate) * up) @ weight.T + bias: [..., I], [..., I] -> [..., O]; the gated product is computed again."""
    product: Tensor = _GatedProduct.apply(gate, up, weight, bias)  # type: ignore[no-untyped-call]
    return product


class _GatedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.autocast = _autocast_as_now(gate.device)
        ctx.save_for_backward(gate, up, weight, bias)
        return functional.linear(functional.silu(gate).mul_(up), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        gate, up, weight, bias = ctx.saved_tensors
        active = functional.silu(gate)
        with ctx.autocast():
            grad_gated = (gradient @ weight).to(gate.dtype)
        grad_weight = _weight_gradient(weight, gradient, active * up) if ctx.needs_input_grad[2] else None
        grad_bias = _bias_gradient(gradient, bias) if ctx.needs_input_grad[3] else None
        grad_up = active.mul_(grad_gated)
        return torch.ops.aten.silu_backward(grad_gated.mul_(up), gate), grad_up, grad_weight, grad_bias


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale queries @ keys.T) @ values on a CPU, causal without a mask: [B, H, T, D], from keys and values of
    as many or fewer heads [B, H / G, S, D], each shared by G heads of queries. mask: bool [B or 1, 1, T, S], what is
    seen.

    Back again torch's kernel for CPUs takes six times as long as the plain products, which here never hold more than
    `SCORES` scores or those of one token of one row.
    """
    if torch.is_grad_enabled():
        attended: Tensor = _Attention.apply(queries, keys, values, mask, scale)  # type: ignore[no-untyped-call]
        return attended
    return _attend(queries, keys, values, mask, scale)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        scale=scale,
        is_causal=mask is None and queries.shape[2] > 1,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, values, mask)
        ctx.scale = scale
        return _attend(queries, keys, values, mask, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        queries, keys, values, mask = ctx.saved_tensors
        rows, heads, tokens, _ = queries.shape
        shared, length = keys.shape[1:3]
        if mask is None:
            mask = torch.ones(tokens, length, dtype=torch.bool).tril()[None, None]
        hidden = ~mask.expand(rows, 1, tokens, length)
        # [B, H / G, G, T, D]: the heads of queries that share keys and values beside each other.
        queries, gradient = (each.unflatten(1, (shared, -1)) for each in (queries, gradient))
        # float32, so that what several parts of the queries give to the keys adds up unrounded.
        grad_queries = torch.empty_like(queries)
        grad_keys, grad_values = (torch.zeros_like(each, dtype=_sum_dtype(each)) for each in (keys, values))
        at_once = max(1, SCORES // (heads * tokens * length))
        part = max(1, min(tokens, SCORES // (heads * length)))
        for row in range(0, rows, at_once):
            of = slice(row, row + at_once)
            for token in range(0, tokens, part):
                by = slice(token, token + part)
                grad_queries[of, :, :, by] = _attention_part(
                    queries[of, :, :, by],
                    keys[of],
                    values[of],
                    hidden[of, :, None, by],
                    gradient[of, :, :, by],
                    ctx.scale,
                    grad_keys[of],
                    grad_values[of],
                )
        return grad_queries.flatten(1, 2), grad_keys.to(keys.dtype), grad_values.to(values.dtype), None, None


def _attention_part(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    hidden: Tensor,
    gradient: Tensor,
    scale: float,
    grad_keys: Tensor,
    grad_values: Tensor,
) -> Tensor:
    """The gradient at some of the queries [b, K, G, t, D]; adds to that of keys and values [b, K, S, D]."""
    dtype = _sum_dtype(queries)
    q, g = (each.flatten(2, 3).to(dtype) for each in (queries, gradient))
    k, v = keys.to(dtype), values.to(dtype)
    # Which rounds chances and the scores' gradients too, as every kernel does that multiplies in bfloat16.
    with bfloat16_products(queries.device) if queries.dtype == torch.bfloat16 else nullcontext():
        scores = (q @ k.mT).mul_(scale).view(*queries.shape[:-1], -1)
        scores.masked_fill_(hidden, torch.finfo(dtype).min)
        # What sees nothing, padding, attends to nothing.
        chances = scores.softmax(-1).masked_fill_(hidden, 0).flatten(2, 3)
        grad_values += chances.mT @ g
        grad_chances = g @ v.mT
        # d score = p (d p - sum of p d p)
        grad_scores = chances.mul_(grad_chances.sub_((chances * grad_chances).sum(-1, keepdim=True))).mul_(scale)
        grad_keys += grad_scores.mT @ q
        return (grad_scores @ k).view(queries.shape)


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype


def _autocast_as_now(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """For the backward pass, around which it is off: autocast as it is now."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext
    dtype = torch.get_autocast_dtype(device.type)
    return lambda: torch.autocast(device.type, dtype=dtype)


def _existing_gradient(weight: Tensor) -> Tensor | None:
    return weight.grad if weight.is_leaf else None


def _weight_gradient(weight: Tensor, gradient: Tensor, x: Tensor) -> Tensor | None:
    """gradient.T @ x of [..., O] and [..., I], summed in the weight's dtype [O, I]; None when it has been added to the
    gradient that the weight has."""
    gradient, x = gradient.flatten(0, -2), x.flatten(0, -2)
    total = _existing_gradient(weight)
    if x.device.type == "cpu":
        with bfloat16_products(x.device) if x.dtype == torch.bfloat16 else nullcontext():
            gradient, x = gradient.to(weight.dtype), x.to(weight.dtype)
            if total is None:
                return gradient.t() @ x
            total.addmm_(gradient.t(), x)
            return None
    product = gradient.t() @ x
    if total is None:
        return product.to(weight.dtype)
    total.add_(product)
    return None


def _bias_gradient(gradient: Tensor, bias: Tensor) -> Tensor:
    return gradient.flatten(0, -2).sum(0, dtype=bias.dtype)
