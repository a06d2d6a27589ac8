"""`asym watch`, and what `--watch` of the commands that make jobs does."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli import completion
from client.cli.exit_codes import DONE, FAILED, INTERRUPTED
from client.cli.output import AsJsonLines, print_json_line, remark

if TYPE_CHECKING:
    from client.progress import Standing
    from client.sdk import Asym


def register(app: typer.Typer) -> None:
    app.command()(watch)


def watch(
    jobs: Annotated[
        list[str],
        typer.Argument(metavar="JOB...", help="Ids of jobs, job_…; at most 50.", autocompletion=completion.jobs),
    ],
    as_json: AsJsonLines = False,
) -> None:
    """Show the progress of jobs until all have ended; exit 1 unless all succeed."""
    from client.progress_table import MOST
    from client.sdk import Asym

    wanted = list(dict.fromkeys(jobs))
    if len(wanted) > MOST:
        raise typer.BadParameter(f"name at most {MOST} jobs, not {len(wanted)}")
    with Asym() as asym:
        raise typer.Exit(watch_to_the_end(asym, wanted, as_json=as_json))


def watch_to_the_end(asym: "Asym", job_ids: Sequence[str], *, as_json: bool = False) -> int:
    """The exit code: 0 where all have succeeded. as_json: a line on stdout for each change of each."""
    from rich.console import Console

    from client import progress, progress_table

    console = Console(stderr=True)  # stdout stays free for an id or JSON
    try:
        if as_json:
            ended = _print_changes(_followed(asym, job_ids))
        elif len(job_ids) == 1:
            ended = [progress.show(asym, job_ids[0], console)]
        else:
            ended = progress_table.show_all(asym, job_ids, console)
    except KeyboardInterrupt:
        remark(f"not watched any more; {'it goes' if len(job_ids) == 1 else 'they go'} on")
        remark(f"next: asym watch {' '.join(job_ids)}")
        return INTERRUPTED
    failed = [standing for standing in ended if standing.job["status"] != "succeeded"]
    for standing in failed:
        _tell_end(standing)
    return FAILED if failed else DONE


def _followed(asym: "Asym", job_ids: Sequence[str]) -> "Iterable[list[Standing]]":
    from client import progress, progress_table

    if len(job_ids) == 1:
        return ([standing] for standing in progress.follow(asym, job_ids[0]))
    return progress_table.follow_all(asym, job_ids)


def _print_changes(looks: "Iterable[list[Standing]]") -> "list[Standing]":
    told: dict[str, Any] = {}
    ended: list[Standing] = []
    for ended in looks:
        for standing in ended:
            news = _as_json(standing)
            if told.get(standing.job["id"]) != news:
                told[standing.job["id"]] = news
                print_json_line(news)
    return ended


def _as_json(standing: "Standing") -> dict[str, Any]:
    job = standing.job
    evaluations = _last_evaluations(standing)
    return {
        "job_id": job["id"],
        "status": job["status"],
        "step": standing.step,
        "steps": job["progress"]["steps"],
        "metrics": {**standing.latest, **dict(evaluations)},
        "failure": job["failure"],
    }


def _last_evaluations(standing: "Standing") -> Iterator[tuple[str, float]]:
    from client.progress import pass_at_1

    for name, points in standing.evaluations.items():
        if points:
            yield pass_at_1(name), points[-1][1]


def _tell_end(standing: "Standing") -> None:
    job = standing.job
    failure = job["failure"]
    remark(f"{job['id']} {job['status']}" + (f" ({failure['kind']}): {failure['message']}" if failure else ""))
    for line in failure["evidence"] if failure else ():
        remark(f"  {line}")
    if failure:
        remark(f"its log: asym logs {job['id']}")
        remark(f"next: asym retry {job['id']} goes on from its last checkpoint, asym clone {job['id']} begins anew")
