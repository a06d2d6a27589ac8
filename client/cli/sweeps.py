"""`asym sweeps submit|list|show|cancel|pause|resume`: many jobs of one plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli import completion
from client.cli.jobs import upload_files
from client.cli.output import AsJson, ago, print_json, print_table, remark

if TYPE_CHECKING:
    from client.results import Sweep, SweepSummary

app = typer.Typer(help="Many jobs of one plan.", no_args_is_help=True, rich_markup_mode=None)

SweepId = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's id, sweep_…", autocompletion=completion.sweeps)
]


@app.command()
def submit(
    plan: Annotated[Path, typer.Argument(help="YAML or JSON: name, base (a job spec), search, seeds, …")],
    as_json: AsJson = False,
) -> None:
    """Create every job of a plan. Data of its base: ds_… ids, or files, which are uploaded first."""
    from client.sdk import Asym
    from client.spec_file import read_spec

    content = read_spec(plan)
    with Asym() as asym:
        if isinstance(content.get("base"), dict):
            content["base"] = upload_files(asym, content["base"], plan)
        made = asym.create_sweep(content)
    if as_json:
        print_json(made)
        return
    print(made["id"])
    remark(f"{made['members']} jobs; next: asym sweeps show {made['id']}")


@app.command("list")
def list_all(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20, as_json: AsJson = False
) -> None:
    """List the team's sweeps, newest first."""
    from client.sdk import Asym

    with Asym() as asym:
        found = list(asym.sweeps(limit=limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "jobs", "how far", "created"),
        ((each["id"], each["name"], each["members"], how_far(each), ago(each["created_at"])) for each in found),
        empty="no sweep yet",
    )


def how_far(sweep: "SweepSummary") -> str:
    """`3 running, 9 queued`; and why no more will run."""
    counted = ", ".join(f"{count} {status}" for status, count in sorted(sweep["statuses"].items()))
    return counted + (f" ({sweep['ended_because']})" if sweep["ended_because"] else "")


@app.command()
def show(sweep: SweepId, as_json: AsJson = False) -> None:
    """The combinations of a sweep from the best to the worst, each over its seeds."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.sweep(sweep)
    if as_json:
        print_json(found)
        return
    remark(f"{found['name']}: {how_far(found)}; {found['used_hours']:.3g} hours used; {found['metric']} over seeds")
    paths = list(dict.fromkeys(path for each in found["combinations"] for path in each["point"]))
    print_table(
        (*paths, "best", "last", "measured"),
        (
            (
                *(each["point"].get(path) for path in paths),
                _mean(each["best"], each["best_spread"]),
                _mean(each["last"], each["last_spread"]),
                f"{each['measured']} of {each['members']}",
            )
            for each in found["combinations"]
        ),
        empty="no jobs",
    )


def _mean(mean: float | None, spread: float | None) -> str | None:
    if mean is None:
        return None
    return f"{mean:.4g}" if spread is None else f"{mean:.4g} ± {spread:.2g}"


@app.command()
def cancel(sweep: SweepId, as_json: AsJson = False) -> None:
    """End every job of a sweep that has not ended."""
    from client.sdk import Asym

    with Asym() as asym:
        _said(asym.cancel_sweep(sweep), as_json)


@app.command()
def pause(sweep: SweepId, as_json: AsJson = False) -> None:
    """Hold every job of a sweep that waits or runs."""
    from client.sdk import Asym

    with Asym() as asym:
        _said(asym.pause_sweep(sweep), as_json)


@app.command()
def resume(sweep: SweepId, as_json: AsJson = False) -> None:
    """Go on with every job that is held, failed or was cancelled, from its last checkpoint."""
    from client.sdk import Asym

    with Asym() as asym:
        _said(asym.resume_sweep(sweep), as_json)


def _said(found: "Sweep", as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    summary: Any = found
    print(f"{found['id']}: {how_far(summary)}")
