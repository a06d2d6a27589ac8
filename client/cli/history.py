"""Commands that read what a job has left behind: logs, metrics, compare, checkpoints, rollouts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli import completion
from client.cli.jobs import JobId
from client.cli.output import (
    AsJson,
    ago,
    print_json,
    print_json_line,
    print_table,
    remark,
    size,
    transfer_bar,
)

if TYPE_CHECKING:
    from client.results import Checkpoint, Series

USUAL_KEYS = ["group/accuracy", "entropy/informative", "entropy/spurious", "policy/loss", "perf/step_seconds"]

Keys = Annotated[
    str | None, typer.Option(help="Comma-separated metric keys, e.g. reward/mean.", show_default="a usual few")
]


def register(app: typer.Typer) -> None:
    for command in (logs, metrics, compare, checkpoints, rollouts):
        app.command()(command)


def logs(
    job: JobId,
    tail: Annotated[int, typer.Option(min=0, help="Only so many of the last lines; 0: all.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a job's trainer wrote to its log; with --follow --json as JSON lines."""
    from collections import deque

    from client.sdk import Asym

    if follow and tail:
        raise typer.BadParameter("--follow prints line by line, all of them")
    if follow:
        with Asym() as asym:
            for each in asym.stream_logs(job):
                if as_json:
                    print_json_line(each)
                else:
                    print(each["line"], flush=True)
        return
    kept: deque[Any] = deque(maxlen=tail or None)
    with Asym() as asym:
        after = 0
        while True:
            page = asym.logs(job, after=after)
            kept.extend(page["data"])
            if not page["has_more"] or not page["data"]:
                break
            after = page["data"][-1]["id"]
    if as_json:
        print_json(list(kept))
        return
    for line in kept:
        print(line["line"])
    if not kept:
        remark("no log lines yet")


def metrics(
    job: JobId,
    keys: Keys = None,
    from_step: Annotated[int | None, typer.Option(min=0)] = None,
    to_step: Annotated[int | None, typer.Option(min=0)] = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's metrics, a row per step; with --json as columns, all keys unless some are named."""
    from client.sdk import Asym

    wanted = _split(keys) or (None if as_json else USUAL_KEYS)
    with Asym() as asym:
        found = asym.metrics(job, wanted, from_step=from_step, to_step=to_step)
    if as_json:
        print_json(found)
        return
    # As they were asked for; behind them what a pattern like `entropy/*` stands for.
    ranks = {key: rank for rank, key in enumerate(wanted or ())}
    columns = sorted(found["keys"].items(), key=lambda column: ranks.get(column[0], len(ranks)))
    at = {key: dict(zip(series["step"], series["value"], strict=True)) for key, series in columns}
    print_table(
        ("step", *at),
        ((step, *(values.get(step) for values in at.values())) for step in sorted(set().union(*at.values()))),
        empty="no metrics yet",
    )


def compare(
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Two or more job ids.", autocompletion=completion.jobs)
    ],
    keys: Keys = None,
    as_json: AsJson = False,
) -> None:
    """Compare jobs: each key's first, best and last value per job; --json prints the curves."""
    from client.sdk import Asym

    if len(set(jobs)) < 2:
        raise typer.BadParameter("name two jobs or more")
    wanted = _split(keys) or (None if as_json else USUAL_KEYS)
    with Asym() as asym:
        found = asym.compare(jobs, wanted)
    if as_json:
        print_json(found)
        return
    jobs_found = found["jobs"]
    present = sorted({key for job in jobs_found.values() for key in job["keys"]})
    print_table(
        ("key", "job", "name", "points", "first", "lowest", "highest", "last"),
        (
            (key, job_id, job["name"], *_summary(job["keys"].get(key)))
            for key in present
            for job_id, job in jobs_found.items()
        ),
        empty="no metrics yet",
    )


def _summary(series: "Series | None") -> tuple[Any, ...]:
    values = [value for value in series["value"] if isinstance(value, int | float)] if series else []
    return (len(values), values[0], min(values), max(values), values[-1]) if values else (0, None, None, None, None)


def checkpoints(
    job: JobId,
    download: Annotated[
        int | None, typer.Option(metavar="STEP", min=0, help="Fetch this one's model as a Hugging Face folder.")
    ] = None,
    to: Annotated[Path, typer.Option(help="The folder to fetch it into.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """List a job's checkpoints, or fetch one."""
    from client.sdk import Asym

    with Asym() as asym:
        if download is not None:
            with transfer_bar(f"fetching {job}@{download}") as progress:
                folder = asym.download_checkpoint(job, download, to, progress=progress)
            if as_json:
                print_json({"job_id": job, "step": download, "folder": str(folder)})
            else:
                print(folder)
            return
        found = asym.checkpoints(job)
    if as_json:
        print_json(found)
        return
    print_table(
        ("step", "attempt", "size", "score", "written", "state"),
        (
            (each["step"], each["attempt"], size(each["bytes"]), each["score"], ago(each["created_at"]), _state(each))
            for each in found
        ),
        empty="no checkpoints yet",
    )


def _state(checkpoint: "Checkpoint") -> str:
    if checkpoint["deleted_at"]:
        return "deleted"
    return "superseded" if checkpoint["superseded_at"] else "kept"


def rollouts(
    job: JobId,
    step: Annotated[int | None, typer.Option(min=1)] = None,
    correct: Annotated[bool | None, typer.Option("--correct/--incorrect", show_default="both")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    as_json: AsJson = False,
) -> None:
    """Print sampled responses with their prompts and rewards."""
    from client.sdk import Asym

    with Asym() as asym:
        page = asym.rollouts(job, step=step, correct=correct, limit=limit)
    if as_json:
        print_json(page["data"])
        return
    for each in page["data"]:
        head = f"step {each['step']}  group {each['group']}  sample {each['sample']}  reward {each['reward']:g}"
        cut = "  truncated" if each["truncated"] else ""
        print(f"{head}  advantage {each['advantage']:+.3f}  {each['tokens']} tokens{cut}")
        for label, text in (("prompt", each["prompt"]), ("answer", each["answer"]), ("response", each["completion"])):
            print(f"  {label:<9} {text.strip().replace(chr(10), chr(10) + ' ' * 12)}")
        print()
    if not page["data"]:
        remark("no rollouts match")
    elif page["has_more"]:
        remark("there are more; see --step, --limit")


def _split(keys: str | None) -> list[str] | None:
    return [key.strip() for key in keys.split(",") if key.strip()] if keys else None
