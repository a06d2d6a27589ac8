"""`asym ... --help` of every command, as the commands themselves say it."""

import contextlib
import io
import re
import runpy
import sys

import typer
from typer.testing import CliRunner

from client.cli import app

PARTS = {
    "api": "api", "worker": "worker", "dashboard": "dashboard", "migrate": "store.migrate", "doctor": "worker.doctor",
    "backup": "store.backup", "restore": "store.backup.restoring", "teams": "store.teams",
    "eval": "trainer.eval_checkpoint",
}  # fmt: skip
"""Commands that hand everything behind their name to a part of the platform, which has a help of its own."""
_WIDTH = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
_INTRODUCTION = """# Commands

The command line reads `ASYM_API_URL` and `ASYM_API_KEY`, else `credentials.json` in `ASYM_HOME`, which `asym up`
writes. How it ends, in numbers for scripts: [exit codes](../sdk.md#the-command).

"""


def page() -> str:
    commands = paths()
    parts = {name: _help_of_part(name, module) for name, module in PARTS.items()}
    return _INTRODUCTION + "\n".join(
        f"## asym {' '.join(path)} {{ #{'-'.join(path)} }}\n\n```text\n{parts.get(path[0]) or help_of(path)}\n```\n"
        for path in commands
    )


def paths() -> list[tuple[str, ...]]:
    """Every command: `("submit",)`, `("datasets", "upload")`."""
    top = typer.main.get_command(app)
    found: list[tuple[str, ...]] = []
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [(name, each) for each in inner] if inner else [(name,)]
    return found


def help_of(path: tuple[str, ...]) -> str:
    answer = CliRunner(env=_WIDTH).invoke(app, [*path, "--help"], prog_name="asym")
    if answer.exit_code != 0:
        raise RuntimeError(f"asym {' '.join(path)} --help: {answer.output}")
    return answer.output.strip()


def _help_of_part(name: str, module: str) -> str:
    """What `python -m MODULE --help` prints; in this process, since imports take most of a process's start."""
    said, arguments = io.StringIO(), sys.argv
    sys.argv = [name, "--help"]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = arguments
    return re.sub(r"^usage: (python -m \S+|asym \S+|\S+)", f"usage: asym {name}", said.getvalue().strip())
