"""Where each token of a response lies in its text."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainer.response_text import Decoder, TokenEntropies


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """A token per byte, as GPT-2 and its heirs fall back to, and one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    found: list[int] = tokenizer(text)["input_ids"]
    return found


def test_each_token_ends_behind_its_own_characters(byte_level: PreTrainedTokenizerFast):
    decode = Decoder(byte_level)
    tokens = ids(byte_level, "4 6")
    assert decode.ends(tokens, decode(tokens)) == [1, 2, 3]
    assert decode.ends([], "") == []


def test_a_character_of_several_tokens_ends_with_the_last_of_them(byte_level: PreTrainedTokenizerFast):
    decode = Decoder(byte_level)
    tokens = ids(byte_level, "é🙂!")
    assert len(tokens) == 2 + 4 + 1
    assert decode.ends(tokens, decode(tokens)) == [0, 1, 1, 1, 1, 2, 3]


def test_a_special_token_has_no_text(byte_level: PreTrainedTokenizerFast):
    decode = Decoder(byte_level)
    tokens = [*ids(byte_level, "46"), byte_level.eos_token_id]
    assert decode(tokens) == "46"
    assert decode.ends(tokens, "46") == [1, 2, 2]


def test_bytes_that_never_become_a_character_end_with_the_text(byte_level: PreTrainedTokenizerFast):
    """A response cut in the middle of a character: it is shown with replacement characters."""
    decode = Decoder(byte_level)
    tokens = ids(byte_level, "a🙂")[:-2]
    text = decode(tokens)
    ends = decode.ends(tokens, text)
    assert text.startswith("a\ufffd")
    assert ends == [1, 1, len(text)]


def test_the_entropies_are_those_of_the_rollout(byte_level: PreTrainedTokenizerFast):
    decode = Decoder(byte_level)
    tokens = ids(byte_level, "46")
    of_step = TokenEntropies(torch.tensor([9.0, 0.25, 0.123456, 8.0]), [0, 1, 3], decode)
    assert of_step.fields(1, tokens, "46") == {"token_entropies": [0.25, 0.1235], "token_ends": [1, 2]}
