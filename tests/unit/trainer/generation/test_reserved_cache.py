"""The reserved cache holds what transformers' own would, whatever comes and leaves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig, MistralConfig
from transformers.cache_utils import DynamicLayer

from trainer.engines.reserved_cache import ReservedLayer, keep_rows, kept_rows, reserve

CONFIG = LlamaConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2)


def states(rows: int, tokens: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(rows, 2, tokens, 4, generator=generator)


def filled(config: LlamaConfig | MistralConfig, rows: int, tokens: int, generator: torch.Generator) -> DynamicCache:
    cache = DynamicCache(config=config)
    for layer in range(2):
        cache.update(states(rows, tokens, generator), states(rows, tokens, generator), layer)
    return cache


def plain_copy(cache: DynamicCache, rows: torch.Tensor) -> DynamicCache:
    copied = DynamicCache(config=CONFIG)
    for index, layer in enumerate(cache.layers):
        copied.update(layer.keys[rows], layer.values[rows], index)
    return copied


@given(st.data())
def test_it_holds_what_a_plain_cache_holds(data: st.DataObject):
    generator = torch.Generator().manual_seed(0)
    prompts = filled(CONFIG, 3, 5, generator)
    before = [layer.keys.clone() for layer in prompts.layers]
    rows = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=6)))
    steps = data.draw(st.integers(1, 6))
    reserved, plain = reserve(prompts, rows, steps, torch.float32), plain_copy(prompts, rows)
    count = len(rows)
    for _ in range(steps):
        for layer in range(2):
            new = states(count, 1, generator), states(count, 1, generator)
            for mine, theirs in zip(reserved.update(*new, layer), plain.update(*new, layer), strict=True):
                assert torch.equal(mine, theirs)
        assert reserved.get_seq_length() == plain.get_seq_length()
        staying = data.draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
        kept = kept_rows(staying)
        keep_rows(reserved, kept)
        plain.batch_select_indices(torch.tensor(kept))
        count = len(kept)
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(prompts.layers, before, strict=True))


@given(st.lists(st.booleans(), max_size=30))
def test_rows_stay_where_they_are_if_they_can(staying: list[bool]):
    kept = kept_rows(staying)
    assert sorted(kept) == [row for row, stays in enumerate(staying) if stays]
    assert all(row == place or (not staying[place] and row >= len(kept)) for place, row in enumerate(kept))


def test_a_token_is_written_and_nothing_is_copied():
    generator = torch.Generator().manual_seed(0)
    cache = reserve(filled(CONFIG, 1, 5, generator), torch.tensor([0, 0, 0]), 4, torch.float32)
    places = {layer.keys.data_ptr() for layer in cache.layers}
    for _ in range(4):
        for layer in range(2):
            cache.update(states(3, 1, generator), states(3, 1, generator), layer)
    keep_rows(cache, kept_rows([False, True, True]))
    assert {layer.keys.data_ptr() for layer in cache.layers} == places
    with pytest.raises(ValueError, match="room for 9 tokens, and 10"):
        cache.update(states(2, 1, generator), states(2, 1, generator), 0)


def test_it_keeps_what_attention_would_cast_to():
    generator = torch.Generator().manual_seed(0)
    prompts = filled(CONFIG, 1, 5, generator)
    cache = reserve(prompts, torch.tensor([0]), 1, torch.bfloat16)
    new = states(1, 1, generator)
    keys, _ = cache.update(new, new, 0)
    assert torch.equal(keys, torch.cat([prompts.layers[0].keys, new], dim=2).bfloat16())


def test_windows_stay_transformers_own():
    config = MistralConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, sliding_window=3)
    cache = reserve(filled(config, 2, 5, torch.Generator().manual_seed(0)), torch.tensor([1, 1, 0]), 4, torch.float32)
    assert not any(isinstance(layer, ReservedLayer) for layer in cache.layers)
    keep_rows(cache, [0, 2])
    assert [len(layer.keys) for layer in cache.layers] == [2, 2]


def test_an_empty_layer_is_refused():
    with pytest.raises(ValueError, match="holds nothing"):
        ReservedLayer(DynamicLayer(), torch.tensor([0]), 1, torch.float32)
