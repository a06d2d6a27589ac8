"""`asym train` and `asym eval`: the trainer alone, as a subprocess, its metrics as JSON lines or for people."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from client.cli.output import AsJsonLines, print_table
from client.extras import require
from client.spec_file import data_references, file_of, read_spec


def register(app: typer.Typer) -> None:
    app.command()(train)
    # Options are the trainer's own; --help too is answered there.
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("eval", context_settings=passed_on, add_help_option=False)(evaluate)


def train(
    spec: Annotated[Path, typer.Argument(help="YAML or JSON; data paths in it are relative to its folder.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="Where checkpoints and results go.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="A checkpoint's folder to go on from, or `latest`.")] = None,
    http_verifier: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="An endpoint that reward.kind http:NAME may name.")
    ] = None,
    sandbox: Annotated[str | None, typer.Option(help="What confines reward.kind python: bubblewrap.")] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Train without any service. Step and evaluation metrics go to stdout, one JSON object a line, --json or not."""
    require("trainer")
    for reference in data_references(read_spec(spec)):
        file_of(reference, spec)  # a missing file is said before torch takes its seconds to load
    argv = [sys.executable, "-P", "-m", "trainer", str(spec)]
    argv += ["--run-dir", str(run_dir)] if run_dir is not None else []
    argv += ["--resume", resume] if resume is not None else []
    argv += [part for pair in http_verifier or [] for part in ("--http-verifier", pair)]
    argv += ["--sandbox", sandbox] if sandbox is not None else []
    raise typer.Exit(_run(argv))


def evaluate(context: typer.Context, as_json: AsJsonLines = False) -> None:
    """Evaluate a checkpoint, a model folder or a model id: asym eval CHECKPOINT --data test.jsonl (--help for more).

    A table on a terminal; else, or with --json, one JSON object for each benchmark.
    """
    require("trainer")
    argv = [sys.executable, "-P", "-m", "trainer.eval_checkpoint", *context.args]
    if {"-h", "--help"} & set(context.args):
        typer.echo(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
        return
    if as_json or not sys.stdout.isatty():
        raise typer.Exit(_run(argv))
    with _start(argv, stderr=None) as process:
        events = [json.loads(line) for line in process.stdout or ()]
    show_evaluations([event for event in events if event["type"] == "eval"])
    raise typer.Exit(process.returncode)


def show_evaluations(events: list[dict[str, Any]]) -> None:
    """A row for each benchmark: pass@k with its interval, problems, what was cut."""

    def metric(event: dict[str, Any], key: str) -> Any:  # noqa: ANN401 (any JSON value)
        return event["metrics"].get(f"eval/{event['name']}/{key}")

    def coverage(event: dict[str, Any], k: int) -> str:
        value, low, high = (metric(event, f"pass_at_k/{k}{bound}") for bound in ("", "/low", "/high"))
        return "–" if value is None else f"{value:.1%} ({low:.1%} to {high:.1%})"

    last_parts = {key.rpartition("/pass_at_k/")[2] for event in events for key in event["metrics"]}
    ks = sorted(int(part) for part in last_parts if part.isdigit())
    print_table(
        ["benchmark", "problems", *(f"pass@{k} (95 %)" for k in ks), "tokens", "truncated"],
        [
            [
                event["name"],
                metric(event, "problems"),
                *(coverage(event, k) for k in ks),
                f"{metric(event, 'length_mean'):.0f}",
                f"{metric(event, 'truncated_fraction'):.1%}",
            ]
            for event in events
        ],
        empty="no benchmark was evaluated",
    )


def _start(argv: list[str], stderr: int | None) -> "subprocess.Popen[str]":
    """The trainer, with its events on a pipe; an end that is asked of us is passed on."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        # Ctrl-C must reach the trainer as SIGTERM, on which it finishes the step and writes a checkpoint.
        start_new_session=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.terminate())
    return process


def _run(argv: list[str]) -> int:
    from rich.console import Console

    console = Console(stderr=True)
    shown = console.is_terminal
    process = _start(argv, stderr=subprocess.PIPE if shown else None)
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
