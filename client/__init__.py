"""Python SDK and the `asym` command: `from client import Asym, AsyncAsym`. Talks HTTP only."""

from typing import TYPE_CHECKING, Any

from client.errors import AsymError as AsymError
from client.errors import NoCredentials as NoCredentials
from client.errors import Unreachable as Unreachable

if TYPE_CHECKING:
    from client.sdk import Asym as Asym
    from client.sdk import AsyncAsym as AsyncAsym
    from client.sdk import AsyncJobHandle as AsyncJobHandle
    from client.sdk import AsyncSweepHandle as AsyncSweepHandle
    from client.sdk import JobHandle as JobHandle
    from client.sdk import SweepHandle as SweepHandle

_SDK = ("Asym", "AsyncAsym", "AsyncJobHandle", "AsyncSweepHandle", "JobHandle", "SweepHandle")

__all__ = [*_SDK, "AsymError", "NoCredentials", "Unreachable"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attribute is whatever it is)
    # httpx costs a quarter of a second, which `asym --help` need not pay.
    if name in _SDK:
        import client.sdk

        return getattr(client.sdk, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
