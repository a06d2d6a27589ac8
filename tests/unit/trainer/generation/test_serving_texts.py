"""Text that is given out while it grows: never a part of a stop string, never half a character, and nothing lost."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from trainer.serving.texts import SampleText, StopSearch
from trainer.spec.events import SampledToken

LETTERS = st.text("abc", max_size=12)


@given(st.lists(LETTERS, max_size=8), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_it_ends_before_the_first_stop_string_however_it_comes(pieces, stops):
    search, given_out, pushed = StopSearch(stops), "", ""
    whole = "".join(pieces)
    for piece in pieces:
        if not search.found:
            given_out += search.push(piece)
            pushed += piece
        # Nothing that may yet turn out to be a stop string was given out.
        undecided = [place for place in range(len(given_out)) for stop in stops if stop.startswith(pushed[place:])]
        assert search.found or not undecided
    rest = "" if search.found else search.flush()
    # Nobody waits for a longer text once a stop string is there.
    ends = [place + len(stop) for stop in stops if (place := whole.find(stop)) >= 0]
    if not ends:
        assert (search.found, given_out + rest) == (False, whole)
    else:
        assert search.found
        assert not any(stop in given_out for stop in stops)
        assert whole.startswith(given_out)


def byte_tokenizer():
    """A token per byte, and an end."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


BYTES = byte_tokenizer()


def told(text_ids, stops=()):
    """(what was given out piece by piece, the rest, the tokens told with it)."""
    text, pieces, tokens = SampleText(BYTES, stops), [], []
    for token_id in text_ids:
        given_out, own = text.push(token_id)
        text.hold(SampledToken(text=own, logprob=-1.0, likely=[]))
        pieces.append(given_out)
        if text.stopped:
            break
        tokens += text.tokens(all_of_them=False)
    rest = text.finish()
    tokens += text.tokens(all_of_them=True)
    assert text.whole == "".join(pieces) + rest
    return pieces, rest, tokens


def test_a_character_of_several_tokens_comes_whole():
    ids = BYTES("aé€")["input_ids"]
    assert len(ids) == 6
    pieces, rest, tokens = told(ids)
    assert pieces == ["a", "", "é", "", "", "€"]
    assert rest == ""
    assert len(tokens) == 6
    assert "".join(token.text for token in tokens) == "aé€"


def test_half_a_character_at_the_end_is_shown_as_such():
    ids = BYTES("a€")["input_ids"][:-1]
    pieces, rest, _ = told(ids)
    assert ("".join(pieces), rest) == ("a", "\ufffd")


def test_tokens_behind_a_stop_string_are_not_told():
    pieces, rest, tokens = told(BYTES("one END two")["input_ids"], ["END"])
    assert "".join(pieces) + rest == "one "
    assert "".join(token.text for token in tokens) == "one "
