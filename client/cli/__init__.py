"""The `asym` command. This module puts its parts together and turns what goes wrong into words and exit codes.

The codes are in client.cli.exit_codes. Nothing heavy is imported before a command needs it.
"""

import sys
from typing import NoReturn

import typer

from client.cli import (
    datasets,
    export,
    history,
    jobs,
    keys,
    members,
    mirror,
    platform,
    sweeps,
    training,
    watching,
    webhooks,
)
from client.cli.exit_codes import FAILED, USAGE, code_of, next_step
from client.errors import AsymError
from client.extras import MissingExtras
from client.spec_file import SpecFileError

app = typer.Typer(
    name="asym",
    help="Training-as-a-service for RLVR: AsymGRPO jobs over HTTP, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (platform, training, jobs, watching, history, export, members, mirror):
    part.register(app)
app.add_typer(datasets.app, name="datasets")
app.add_typer(keys.app, name="keys")
app.add_typer(members.app, name="members")
app.add_typer(sweeps.app, name="sweeps")
app.add_typer(webhooks.app, name="webhooks")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `asym` command; always ends in SystemExit."""
    try:
        app(arguments, prog_name="asym")
    except (MissingExtras, SpecFileError) as error:
        _leave(error, USAGE)
    except AsymError as error:
        _leave(error, code_of(error), next_step(error))
    except OSError as error:
        _leave(error, FAILED)


def _leave(error: Exception, code: int, advice: str | None = None) -> NoReturn:
    print(f"asym: {error}", file=sys.stderr)
    if advice is not None:
        print(f"next: {advice}", file=sys.stderr)
    sys.exit(code)
