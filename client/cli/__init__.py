"""The `asym` command. This module puts its parts together and turns what goes wrong into words and exit codes.

Exit codes: 0 done; 1 the job failed, or the server refused for a reason of its own; 2 wrong usage or an invalid spec;
3 the API cannot be reached, or the platform is already up. Nothing heavy is imported before a command needs it.
"""

import sys
from typing import NoReturn

import typer

from client.cli import datasets, export, history, jobs, keys, members, mirror, platform, sample, sweeps, training
from client.errors import AsymError, NoCredentials, Unreachable
from client.extras import MissingExtras
from client.spec_file import SpecFileError

FAILED, USAGE, NO_API = 1, 2, 3

app = typer.Typer(
    name="asym",
    help="Training-as-a-service for RLVR: AsymGRPO jobs over HTTP, on your own machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (platform, training, jobs, history, export, sample, members, mirror):
    part.register(app)
app.add_typer(datasets.app, name="datasets")
app.add_typer(keys.app, name="keys")
app.add_typer(members.app, name="members")
app.add_typer(sweeps.app, name="sweeps")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `asym` command; always ends in SystemExit."""
    try:
        app(arguments, prog_name="asym")
    except (MissingExtras, SpecFileError) as error:
        _leave(error, USAGE)
    except (Unreachable, NoCredentials) as error:
        _leave(error, NO_API)
    except AsymError as error:
        _leave(error, USAGE if error.status is not None and 400 <= error.status < 500 else FAILED)
    except OSError as error:
        _leave(error, FAILED)


def _leave(error: Exception, code: int) -> NoReturn:
    print(f"asym: {error}", file=sys.stderr)
    sys.exit(code)
