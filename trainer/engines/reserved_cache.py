"""A key-value cache with room for what is still to come.

transformers' cache is copied whole at every token, and again whenever rollouts leave the batch: for small models that
is more memory traffic than the weights. Under autocast it is kept in float32 besides (the rotary embedding makes it so)
and cast as a whole at every token. Here a token is written to its place, in the dtype that attention computes in, and a
rollout that leaves is overwritten by one from the end.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class ReservedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Rows `rows` of a layer (they may repeat), with room for `room` more tokens, kept in `dtype`. `keys` and `values`
    are views of the part in use, [rows, heads, tokens, head dim]."""

    def __init__(self, layer: DynamicLayer, rows: Tensor, room: int, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if layer.keys is None or layer.values is None:
            raise ValueError("the layer holds nothing yet")
        self.lazy_initialization(layer.keys, layer.values)
        self._keys = _with_room(layer.keys, rows, room, dtype)
        self._values = _with_room(layer.values, rows, room, dtype)
        self._show(len(rows), layer.keys.shape[-2])

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        rows, used = self._rows, self._used
        tokens = key_states.shape[-2]
        if used + tokens > self._keys.shape[-2]:
            raise ValueError(f"room for {self._keys.shape[-2]} tokens, and {used + tokens} are to be kept")
        self._keys[:rows, :, used : used + tokens] = key_states
        self._values[:rows, :, used : used + tokens] = value_states
        return self._show(rows, used + tokens)

    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row rows[i] was; rows[i] >= i, as `kept_rows` gives them."""
        into = [i for i, row in enumerate(rows) if row != i]
        taken = [rows[i] for i in into]
        if into:
            for buffer in (self._keys, self._values):
                buffer[into, :, : self._used] = buffer[taken, :, : self._used]
        self._show(len(rows), self._used)

    def _show(self, rows: int, tokens: int) -> tuple[Tensor, Tensor]:
        self._rows, self._used = rows, tokens
        self.keys, self.values = self._keys[:rows, :, :tokens], self._values[:rows, :, :tokens]
        return self.keys, self.values


def reserve(cache: DynamicCache, rows: Tensor, room: int, dtype: torch.dtype) -> DynamicCache:
    """A cache of the given rows, which may repeat, with room for `room` more tokens, kept in `dtype`; the one given
    stays as it is.
    Layers that do not keep every token (sliding windows, recurrent states) stay transformers' own."""
    reserved = copy.copy(cache)
    reserved.layers = [
        ReservedLayer(layer, rows, room, dtype) if type(layer) is DynamicLayer else _selected(layer, rows)
        for layer in cache.layers
    ]
    return reserved


def kept_rows(staying: Sequence[bool]) -> list[int]:
    """Which row each of the remaining rows is to come from: staying rows keep their place, and places that become free
    are taken from the end, so that as little as possible moves."""
    count = sum(staying)
    from_end = iter([row for row in range(len(staying) - 1, count - 1, -1) if staying[row]])
    return [row if staying[row] else next(from_end) for row in range(count)]


def keep_rows(cache: DynamicCache, rows: Sequence[int]) -> None:
    """Leave only `rows`, in the order of `kept_rows`."""
    layers: list[Any] = cache.layers
    for layer in layers:
        if isinstance(layer, ReservedLayer):
            layer.keep(rows)
        else:
            layer.batch_select_indices(torch.tensor(rows))


def _with_room(states: Tensor, rows: Tensor, room: int, dtype: torch.dtype) -> Tensor:
    _, heads, tokens, size = states.shape
    buffer = states.new_empty(len(rows), heads, tokens + room, size, dtype=dtype)
    buffer[:, :, :tokens] = states[rows]
    return buffer


def _selected(layer: Any, rows: Tensor) -> Any:  # noqa: ANN401 (transformers' layer classes share no useful base)
    selected = copy.copy(layer)
    selected.batch_select_indices(rows)
    return selected
