"""Keys can be told from words, and from mistyped keys, without a database."""

import re

from hypothesis import given
from hypothesis import strategies as st

from store.key_format import is_well_formed, new_key

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def test_a_new_key_is_what_a_scanner_looks_for():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"asym_[a-z2-7]{59}", key) and is_well_formed(key) for key in keys)


@given(st.integers(5, 63), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(place, wrong):
    key = "asym_" + "a" * 52
    key += _checksum(key)
    assert is_well_formed(key)
    assert is_well_formed(key[:place] + wrong + key[place + 1 :]) == (key[place] == wrong)


def _checksum(body):
    import base64
    import zlib

    return base64.b32encode(zlib.crc32(body.encode()).to_bytes(4, "big")).decode().rstrip("=").lower()


def test_a_key_without_a_checksum_may_be_one_of_before():
    assert is_well_formed("asym_" + "b" * 52)


def test_what_cannot_be_a_key_is_told():
    key = new_key()
    for text in (
        "",
        "asym_",
        key[:-1],
        key + "a",
        key.upper(),
        f" {key}",
        f"{key}\n",
        key.replace("_", "-"),
        "\0" * 64,
    ):
        assert not is_well_formed(text)
