"""The SDK without asyncio is what `./dev sdk` writes, and has the methods of the one with it."""

import inspect
import re
from pathlib import Path

import pytest

import client.sdk
from client.generate_sync import generate

PACKAGE = Path(client.sdk.__file__).parent
TWINS = [("AsyncAsym", "Asym"), ("AsyncJobHandle", "JobHandle"), ("AsyncSweepHandle", "SweepHandle")]


def test_what_is_checked_in_is_what_would_be_written() -> None:
    checked_in = {path.name: path.read_text() for path in (PACKAGE / "_sync").glob("*.py")}
    assert generate(PACKAGE) == checked_in, "client/_async was changed: run ./dev sdk"


def test_nothing_of_asyncio_is_left() -> None:
    for path in (PACKAGE / "_sync").glob("*.py"):
        code = re.sub(r'"""(?:.|\n)*?"""|#.*', "", path.read_text())
        assert not re.findall(r"\b(?:async|await|asyncio|Async\w*|a(?:close|read|iter_\w+))\b", code), path


@pytest.mark.parametrize(("asynchronous", "blocking"), TWINS)
def test_both_have_the_same_methods(asynchronous: str, blocking: str) -> None:
    one, other = (_signatures(getattr(client.sdk, name)) for name in (asynchronous, blocking))
    assert len(one) > 5
    assert {name: re.sub(r"\bAsync(?=[A-Z])", "", signature) for name, signature in one.items()} == other


def test_every_method_waits_or_iterates_or_asks_nobody() -> None:
    """So that none of `AsyncAsym` holds up the event loop."""
    methods = inspect.getmembers(client.sdk.AsyncAsym, inspect.isfunction)
    plain = {
        name
        for name, method in methods
        if not inspect.iscoroutinefunction(method)
        and not inspect.isasyncgenfunction(method)
        and "AsyncIterator" not in str(inspect.signature(method).return_annotation)
    }
    assert plain == {"__init__", "run_page"}


def _signatures(kind: type) -> dict[str, str]:
    """By its public name, what a method takes and gives; `async with` counts as `with`."""
    found = {}
    for name, member in inspect.getmembers(kind):
        if name in ("__aenter__", "__aexit__", "__enter__", "__exit__"):
            found[name.replace("__a", "__")] = str(inspect.signature(member)).replace("client._async", "client._sync")
        elif not name.startswith("_"):
            is_method = inspect.isfunction(member)
            text = str(inspect.signature(member)) if is_method else type(member).__name__
            found[name] = text.replace("client._async", "client._sync")
    return found
