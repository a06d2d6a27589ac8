"""Python SDK and the `asym` command: `from client import Asym`. Talks HTTP only and imports no other part of Asym."""

from typing import TYPE_CHECKING, Any

from client.errors import AsymError as AsymError
from client.errors import NoCredentials as NoCredentials
from client.errors import Unreachable as Unreachable

if TYPE_CHECKING:
    from client.sdk import Asym as Asym

__all__ = ["Asym", "AsymError", "NoCredentials", "Unreachable"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attribute is whatever it is)
    # httpx costs a quarter of a second, which `asym --help` need not pay.
    if name == "Asym":
        from client.sdk import Asym

        return Asym
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
