"""Short texts that requests bring."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds the character U+0000")
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
"""What somebody calls something."""
Login = Annotated[str, StringConstraints(max_length=320), AfterValidator(_storable)]
"""The name under which somebody is known to an identity provider, mostly an address of mail."""
