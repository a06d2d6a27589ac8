"""What an API key looks like: `asym_`, 32 random bytes and their checksum, in lower-case base 32.

A mistyped key is refused without asking the database, and a scanner that looks for leaked secrets tells a key from a
word that looks like one: `asym_[a-z2-7]{59}`, of which the last 7 characters are the CRC-32 of what stands before them
(as in GitHub's tokens). Keys made before there was a checksum have 52 characters and go on working.
"""

import base64
import re
import secrets
import zlib

PREFIX = "asym_"
SHOWN = len(PREFIX) + 6
"""How much of a key lists show, to tell keys apart."""

_RANDOM_BYTES = 32
_CHECKSUM = 7
_FORM = re.compile(rf"{PREFIX}[a-z2-7]{{52}}(?:[a-z2-7]{{{_CHECKSUM}}})?")
_OLD_LENGTH = len(PREFIX) + 52


def new_key() -> str:
    body = PREFIX + _base32(secrets.token_bytes(_RANDOM_BYTES))
    return body + _checksum(body)


def is_well_formed(text: str) -> bool:
    """Whether this can be a key at all. True for those without a checksum, which only the database can tell."""
    if not _FORM.fullmatch(text):
        return False
    return len(text) == _OLD_LENGTH or text[-_CHECKSUM:] == _checksum(text[:-_CHECKSUM])


def _checksum(body: str) -> str:
    return _base32(zlib.crc32(body.encode()).to_bytes(4, "big"))


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
