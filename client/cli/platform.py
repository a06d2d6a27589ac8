"""`asym up` and `asym demo`, the platform's parts one by one, and what an operator does about them."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from client.credentials import home_folder
from client.extras import require, require_platform

FAILED, USAGE, ALREADY_UP = 1, 2, 3
MODULES = {
    "migrate": "store.migrate",
    "doctor": "worker.doctor",
    "backup": "store.backup",
    "restore": "store.backup.restoring",
    "teams": "store.teams",
}
"""Of the parts that are called otherwise than their module."""

Home = Annotated[
    Path | None, typer.Option("--home", help="The platform's folder.", show_default="ASYM_HOME, else ~/.asym")
]


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(demo)
    for name, extras, summary in (
        ("api", ("api",), "The HTTP API alone (python -m api)."),
        ("worker", ("worker", "trainer"), "One worker alone (python -m worker)."),
        ("dashboard", ("dashboard",), "The dashboard alone (python -m dashboard)."),
        ("migrate", ("store",), "Bring the database to this version's schema (python -m store.migrate)."),
        ("doctor", ("worker",), "Look at every part of the platform and say what is wrong (python -m worker.doctor)."),
        ("backup", ("store",), "Back the whole platform up into a new folder, while it runs (python -m store.backup)."),
        ("restore", ("store",), "Bring a backup back into an empty home (python -m store.backup.restoring)."),
        ("teams", ("store",), "For the operator: list and create teams, set their limits (python -m store.teams)."),
    ):
        _register_part(app, name, MODULES.get(name, name), extras, summary)


def up(
    home: Home = None,
    api_port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
) -> None:
    """Start the whole platform here: Postgres, Valkey, API, a worker and the dashboard. Ctrl-C stops it."""
    from client.front import Address, AlreadyUp, CannotStart, Front, check_ports, lock_home, prepare_home
    from client.up import supervisor_command

    require_platform()
    folder, address = home_folder(home), Address(api_port, dashboard_port)
    try:
        prepare_home(folder)
        lock = lock_home(folder, address)
        check_ports(address)
    except AlreadyUp as error:
        print(error, file=sys.stderr)
        print("Stop it with Ctrl-C there, or `kill PID`; another one needs another --home and ports.", file=sys.stderr)
        raise typer.Exit(ALREADY_UP) from None
    except CannotStart as error:
        print(f"asym: {error}", file=sys.stderr)
        raise typer.Exit(USAGE) from None
    front = Front(supervisor_command(folder, address), home=folder, lock=lock)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: front.stop())
    code = front.wait() or 0
    if code < 0:
        print("asym: the platform's supervisor was killed; its parts have been stopped", file=sys.stderr)
        code = FAILED
    raise typer.Exit(code)


def demo(
    home: Home = None,
    keep_up: Annotated[
        bool | None,
        typer.Option(
            "--keep-up/--no-keep-up",
            help="Leave the platform up until Ctrl-C.",
            show_default="only on a terminal",
        ),
    ] = None,
) -> None:
    """See AsymGRPO train a model: start the platform, upload data, run a job, show its progress and result."""
    from rich.console import Console

    from client.demo import run_demo
    from client.front import AlreadyUp, CannotStart

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console()
    if keep_up is None:
        keep_up = console.is_terminal and sys.stdin.isatty()
    try:
        code = run_demo(home_folder(home), console, keep_up=keep_up)
    except AlreadyUp as error:
        print(error, file=sys.stderr)
        code = ALREADY_UP
    except CannotStart as error:
        print(f"asym: {error}", file=sys.stderr)
        code = FAILED
    raise typer.Exit(code)


def _register_part(app: typer.Typer, name: str, module: str, extras: tuple[str, ...], summary: str) -> None:
    # Everything behind the name, --help included, is for the part itself.
    passing = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    def part(context: typer.Context) -> None:
        require(*extras)
        os.execv(sys.executable, [sys.executable, "-P", "-m", module, *context.args])  # noqa: S606 (no shell is wanted)

    app.command(name, help=summary, context_settings=passing)(part)
