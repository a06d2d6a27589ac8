"""All samples that are on their way, one token of each at a step, through the policy's own transformers model.

Newcomers join between two steps: their prompts are computed, and their caches put beside the others', padded on the
left to one width. A sample's random numbers are its own (`trainer.engines.sampling`), so who else is in the batch moves
it only where rounding does. Models whose layers do not keep every token (sliding windows, recurrent states) cannot be
joined: with them newcomers wait until the batch has ended.
"""

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from trainer.engines.reserved_cache import ReservedLayer, keep_rows, kept_rows, reserve
from trainer.engines.sampling import uniforms
from trainer.models.policy import Policy, autocast, position_ids
from trainer.serving.choosing import choose
from trainer.serving.drawing import Drawn, Sample
from trainer.spec.job import EngineName

MAX_BATCH_TOKENS = 65_536
"""Rows x columns of the cache at most; one sample may exceed it alone."""


class Batch:
    """See `trainer.serving.drawing.Drawing`.

    compute_dtype: float32 or bfloat16 (autocast); logits and softmax are float32 either way.
    """

    engine: ClassVar[EngineName] = "hf"

    def __init__(self, policy: Policy, *, compute_dtype: torch.dtype, max_batch_tokens: int = MAX_BATCH_TOKENS) -> None:
        self._policy = policy
        self._dtype = compute_dtype
        self._max_batch_tokens = max_batch_tokens
        self._eos = frozenset(policy.eos_ids)
        self._waiting: deque[Sample] = deque()
        self._clear()

    @property
    def positions(self) -> int:
        return self._policy.positions

    def _clear(self) -> None:
        self._rows: list[Sample] = []
        self._lengths: list[int] = []
        """Tokens drawn, of each row."""
        self._cache: DynamicCache | None = None
        self._mask = torch.zeros((0, 0), dtype=torch.long, device=self._policy.device)
        """[rows, columns of the cache]"""
        self._last = torch.zeros(0, dtype=torch.long, device=self._policy.device)
        """The tokens drawn last, which are not in the cache yet."""
        self._uniforms: list[Tensor] = []

    @property
    def idle(self) -> bool:
        return not (self._rows or self._waiting)

    def add(self, samples: Sequence[Sample]) -> None:
        self._waiting.extend(samples)

    def drop(self, request: str, index: int | None = None) -> None:
        """Draw no more of a request's samples, or of one of them."""

        def stays(sample: Sample) -> bool:
            return sample.request != request or index not in (None, sample.index)

        self._waiting = deque(filter(stays, self._waiting))
        self._keep([stays(sample) for sample in self._rows])

    def clear(self) -> None:
        """Forget everything, after an error in the middle of a step."""
        self._waiting.clear()
        self._clear()

    def step(self) -> list[Drawn]:
        """A token of every sample in the batch. FloatingPointError when the model computes NaN; OutOfMemoryError."""
        with torch.no_grad(), autocast(self._policy.device, self._dtype):
            hidden = [self._go_on()] if self._rows else []
            if newcomers := self._newcomers():
                hidden.append(self._join(newcomers))
            if not hidden:
                return []
            # As trainer.logprobs does: operands in the dtype of the hidden states, products and sums in float32.
            states = torch.cat(hidden)
            head = self._policy.lm_head_weight.to(states.dtype).float()
            with torch.autocast(states.device.type, enabled=False):
                logits = states.float() @ head.T
        return self._draw(logits)

    def _go_on(self) -> Tensor:
        """The rows' last tokens through the model: their hidden states [rows, D]."""
        assert self._cache is not None  # noqa: S101 - there are rows
        positions = self._mask.sum(dim=1)
        self._mask = F.pad(self._mask, (0, 1), value=1)
        return self._forward(self._last[:, None], self._mask, positions[:, None], self._cache)

    def _newcomers(self) -> list[Sample]:
        """Those of the samples that wait which there is room for, in their order."""
        if self._rows and not self._can_be_joined:
            return []
        rows, width = len(self._rows), 0
        if rows:
            left = [sample.max_tokens - drawn for sample, drawn in zip(self._rows, self._lengths, strict=True)]
            width = self._mask.shape[1] + max(left)
        taken: list[Sample] = []
        while self._waiting:
            sample = self._waiting[0]
            wider = max(width, len(sample.prompt) + sample.max_tokens)
            if (rows or taken) and (rows + len(taken) + 1) * wider > self._max_batch_tokens:
                break
            width = wider
            taken.append(self._waiting.popleft())
        return taken

    @property
    def _can_be_joined(self) -> bool:
        return self._cache is not None and all(type(layer) is ReservedLayer for layer in self._cache.layers)

    def _join(self, newcomers: list[Sample]) -> Tensor:
        """Compute the newcomers' prompts, each once, and take them into the batch: hidden states [newcomers, D]."""
        device = self._policy.device
        prompts = list(dict.fromkeys(sample.prompt for sample in newcomers))
        width = max(map(len, prompts))
        input_ids = torch.full((len(prompts), width), self._policy.pad_id)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            input_ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        mask = mask.to(device)
        cache = DynamicCache(config=self._policy.model.config)
        hidden = self._forward(input_ids.to(device), mask, position_ids(mask), cache)
        rows = torch.tensor([prompts.index(sample.prompt) for sample in newcomers], device=device)
        self._rows += newcomers
        self._lengths += [0] * len(newcomers)
        # Drawn one by one as they are needed, a stream would be begun anew for each.
        self._uniforms += [uniforms((each.seed,), [each.place], each.max_tokens)[0] for each in newcomers]
        room = max(each.max_tokens - drawn for each, drawn in zip(self._rows, self._lengths, strict=True))
        if self._cache is None:
            self._cache, self._mask = reserve(cache, rows, room, self._dtype), mask[rows]
        else:
            # Columns that were padding for those that are left need not be carried on.
            old = self._mask[:, int(self._mask.shape[1] - self._mask.sum(dim=1).max()) :]
            columns = max(old.shape[1], width)
            self._cache = _beside(self._cache, old.shape[1], cache, rows, columns, room, self._dtype)
            self._mask = torch.cat([_padded(old, columns), _padded(mask[rows], columns)])
        return hidden[rows]

    def _draw(self, logits: Tensor) -> list[Drawn]:
        device = logits.device
        uniform = torch.stack([each[at] for each, at in zip(self._uniforms, self._lengths, strict=True)])
        tokens = choose(
            logits,
            torch.tensor([sample.temperature for sample in self._rows], device=device),
            torch.tensor([sample.top_p for sample in self._rows], device=device),
            uniform.to(device),
        )
        token_ids: list[int] = tokens.tolist()
        told = self._logprobs(logits, token_ids)
        self._last = tokens
        self._lengths = [length + 1 for length in self._lengths]
        drawn = []
        for row, (sample, token_id) in enumerate(zip(self._rows, token_ids, strict=True)):
            logprob, likely = told.get(row, (None, []))
            ended = token_id in self._eos
            last = ended or self._lengths[row] == sample.max_tokens
            drawn.append(Drawn(sample, token_id, logprob, likely, ended, last))
        self._keep([not each.last for each in drawn])
        return drawn

    def _logprobs(self, logits: Tensor, token_ids: list[int]) -> dict[int, tuple[float, list[tuple[int, float]]]]:
        """By row, of those that asked: the chosen token's, and the likeliest ones'."""
        rows = [row for row, sample in enumerate(self._rows) if sample.logprobs is not None]
        if not rows:
            return {}
        logprobs = torch.log_softmax(logits[rows], dim=-1)
        most = max(self._rows[row].logprobs or 0 for row in rows)
        values, places = logprobs.topk(most, dim=-1)
        found = {}
        for at, row in enumerate(rows):
            wanted = self._rows[row].logprobs or 0
            pairs = zip(places[at, :wanted].tolist(), values[at, :wanted].tolist(), strict=True)
            found[row] = (float(logprobs[at, token_ids[row]]), list(pairs))
        return found

    def _keep(self, staying: list[bool]) -> None:
        if all(staying):
            return
        if not any(staying):
            self._clear()
            return
        rows = kept_rows(staying)
        self._rows = [self._rows[row] for row in rows]
        self._lengths = [self._lengths[row] for row in rows]
        self._uniforms = [self._uniforms[row] for row in rows]
        keep = torch.tensor(rows, device=self._mask.device)
        self._mask, self._last = self._mask[keep], self._last[keep]
        assert self._cache is not None  # noqa: S101 - there are rows
        keep_rows(self._cache, rows)

    def _forward(self, input_ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        """Hidden states [rows, D] of the last column; appends to `cache`."""
        output = self._policy.backbone(
            input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden


def _beside(
    old: DynamicCache, kept: int, new: DynamicCache, rows: Tensor, columns: int, room: int, dtype: torch.dtype
) -> DynamicCache:
    """The last `kept` columns of all rows of `old`, and the given rows of `new` below them, `columns` wide, with room
    for `room` more tokens."""
    joined = copy.copy(new)
    layers: list[Any] = []
    pairs: list[tuple[Any, Any]] = list(zip(old.layers, new.layers, strict=True))
    for one, other in pairs:
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        for name in ("keys", "values"):
            states = getattr(one, name)
            upper, lower = states[:, :, states.shape[2] - kept :], getattr(other, name)[rows].to(dtype)
            setattr(layer, name, torch.cat([_padded(upper, columns, 2), _padded(lower, columns, 2)]))
        layers.append(layer)
    joined.layers = layers
    return reserve(joined, torch.arange(len(layers[0].keys), device=rows.device), room, dtype)


def _padded(states: Tensor, columns: int, axis: int = 1) -> Tensor:
    """With zeros before, so that the axis is `columns` long."""
    return F.pad(states, [*[0, 0] * (states.dim() - 1 - axis), columns - states.shape[axis], 0])
