"""`asym train`: the trainer alone, as a subprocess, with its metrics as JSON lines on stdout and a progress bar."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from client.extras import require
from client.spec_file import data_references, file_of, read_spec


def register(app: typer.Typer) -> None:
    app.command()(train)


def train(
    spec: Annotated[Path, typer.Argument(help="YAML or JSON; data paths in it are relative to its folder.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="Where checkpoints and results go.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="A checkpoint's folder to go on from, or `latest`.")] = None,
) -> None:
    """Train without any service. Step and evaluation metrics go to stdout, one JSON object a line."""
    require("trainer")
    for reference in data_references(read_spec(spec)):
        file_of(reference, spec)  # a missing file is said before torch takes its seconds to load
    argv = [sys.executable, "-m", "trainer", str(spec)]
    argv += ["--run-dir", str(run_dir)] if run_dir is not None else []
    argv += ["--resume", resume] if resume is not None else []
    raise typer.Exit(_run(argv))


def _run(argv: list[str]) -> int:
    from rich.console import Console

    console = Console(stderr=True)
    shown = console.is_terminal
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if shown else None,
        text=True,
        errors="replace",
        # Ctrl-C must reach the trainer as SIGTERM, on which it finishes the step and writes a checkpoint.
        start_new_session=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.terminate())
    if process.stdout is None:
        raise AssertionError("stdout was asked for as a pipe")
    if process.stderr is None:
        for line in process.stdout:
            _pass_on(line)
    else:
        _read_with_bar(process.stdout, process.stderr, console)
    return process.wait()


def _read_with_bar(events: IO[str], messages: IO[str], console: Any) -> None:  # noqa: ANN401 (rich comes late)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("step"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as progress:
        task = progress.add_task("train", total=None, note="starting")

        def show_messages() -> None:
            for line in messages:
                console.print(line.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)

        reader = threading.Thread(target=show_messages, name="trainer's stderr", daemon=True)
        reader.start()
        for line in events:
            event = _pass_on(line)
            match event.get("type"):
                case "started":
                    progress.update(task, total=event["steps"], completed=event["resumed_from"], note="")
                case "step":
                    accuracy = event["metrics"].get("group/accuracy")
                    note = "" if accuracy is None else f"accuracy {accuracy:.3f}"
                    progress.update(task, completed=event["step"], note=note)
        reader.join(1.0)


def _pass_on(line: str) -> dict[str, Any]:
    """Print a metrics event; the event, whatever it is. Other lines are not the trainer's and go to stderr."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        sys.stderr.write(line)
        return {}
    if event.get("type") in ("step", "eval"):
        # The reader may stop reading (`| head`); the run and its checkpoints are still wanted.
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(line)
            sys.stdout.flush()
    return event
