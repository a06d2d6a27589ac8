"""Every command there is, found by walking the typer app: a new one is in every test that goes over all of them."""

from collections.abc import Iterator
from typing import Any

import typer

from client.cli import app

SERVERS = frozenset({"api", "worker", "dashboard"})
"""Servers that take the process's place: their options, and their logs, are their own."""


def commands() -> dict[str, Any]:
    """By its words, `datasets upload`, each command as typer runs it."""
    return dict(_under(typer.main.get_command(app), ()))


def _under(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _under(each, (*words, name))
    else:
        yield " ".join(words), command
