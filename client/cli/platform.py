"""`asym up` and `asym demo`, the platform's parts one by one, and what an operator does about them."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from client.cli.exit_codes import FAILED, NO_API, USAGE
from client.cli.output import AsJson, AsJsonLines, print_json
from client.credentials import home_folder
from client.extras import require, require_platform

ALREADY_UP = NO_API

Home = Annotated[
    Path | None, typer.Option("--home", help="The platform's folder.", show_default="ASYM_HOME, else ~/.asym")
]


PASSING = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Everything behind the name of a part, --help included, is for the part itself."""


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(demo)
    for name, extras, summary in (
        ("api", ("api",), "The HTTP API alone (python -m api)."),
        ("worker", ("worker", "trainer"), "One worker alone (python -m worker)."),
        ("dashboard", ("dashboard",), "The dashboard alone (python -m dashboard)."),
    ):
        app.command(name, help=summary, context_settings=PASSING)(_server(name, extras))
    for name, module, extras, summary in (
        ("migrate", "store.migrate", ("store",), "Bring the database to this version's schema"),
        ("doctor", "worker.doctor", ("worker",), "Look at every part of the platform and say what is wrong"),
        ("backup", "store.backup", ("store",), "Back the whole platform up into a new folder, while it runs"),
        ("restore", "store.backup.restoring", ("store",), "Bring a backup back into an empty home"),
        ("teams", "store.teams", ("store",), "For the operator: list and create teams, set their limits"),
    ):
        app.command(name, help=f"{summary} (python -m {module}).", context_settings=PASSING)(_tool(module, extras))


def up(
    home: Home = None,
    api_port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    as_json: AsJsonLines = False,
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
    front = Front(supervisor_command(folder, address, as_json=as_json), home=folder, lock=lock)
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
    as_json: AsJson = False,
) -> None:
    """See AsymGRPO train a model: start the platform, upload data, run a job, show its progress and result."""
    from rich.console import Console

    from client.demo import run_demo
    from client.front import AlreadyUp, CannotStart

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=as_json)
    if keep_up is None:
        keep_up = console.is_terminal and sys.stdin.isatty()
    try:
        code = run_demo(home_folder(home), console, keep_up=keep_up, told=print_json if as_json else None)
    except AlreadyUp as error:
        print(error, file=sys.stderr)
        code = ALREADY_UP
    except CannotStart as error:
        print(f"asym: {error}", file=sys.stderr)
        code = FAILED
    raise typer.Exit(code)


def _server(module: str, extras: tuple[str, ...]) -> Callable[[typer.Context], None]:
    def part(context: typer.Context) -> None:
        _become(module, extras, context.args)

    return part


def _tool(module: str, extras: tuple[str, ...]) -> Callable[[typer.Context, bool], None]:
    def part(context: typer.Context, as_json: AsJson = False) -> None:
        _become(module, extras, [*context.args, *(["--json"] if as_json else [])])

    return part


def _become(module: str, extras: tuple[str, ...], arguments: list[str]) -> NoReturn:
    require(*extras)
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 (no shell is wanted)
