"""`asym mirror`: what jobs measure, told to TensorBoard, MLflow, Weights & Biases or trackio."""

import hashlib
import re
import signal
from typing import Annotated

import typer

from client.cli import completion
from client.cli.exit_codes import FAILED
from client.cli.output import AsJson, print_json, remark


def register(app: typer.Typer) -> None:
    app.command()(mirror)


def mirror(
    target: Annotated[
        str, typer.Argument(help="tensorboard:DIR, mlflow:URI[#EXPERIMENT], wandb:[ENTITY/]PROJECT or trackio:PROJECT")
    ],
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JOB]...",
            help="Until these have ended; none: every job that runs, until Ctrl-C.",
            autocompletion=completion.jobs,
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Without JOB: jobs that have all of these tags.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell a tracker what jobs measure, under the same keys, as it comes and from where the last mirror stopped.

    It reads the API as any client: no run ever waits for a tracker. Exit code 1 when a job could not be told.
    """
    from client.credentials import home_folder
    from client.mirrors import Mirror, TargetError, open_tracker
    from client.sdk import Asym

    home = home_folder(None)
    try:
        tracker = open_tracker(target, home)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    with Asym() as asym:
        # One folder for each platform and target: where one of them is up to says nothing about another.
        digest = hashlib.sha256(f"{asym.api_url} {target}".encode()).hexdigest()[:8]
        name = f"{re.sub(r'[^a-z0-9]+', '-', target.lower()).strip('-')[:40]}-{digest}"
        following = Mirror(asym, tracker, home / "mirrors" / name, remark)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: following.stop())
        if jobs:
            failed = following.tell(jobs)
            if as_json:
                print_json({"target": target, "jobs": jobs, "not_told": failed})
            if failed:
                remark(f"not told: {', '.join(failed)}; `asym mirror` goes on where it stopped")
                raise typer.Exit(FAILED)
        else:
            remark(f"telling {target.partition(':')[0]} of the jobs of {asym.api_url}; Ctrl-C ends it")
            told = following.follow(tag or ())
            if as_json:
                print_json({"target": target, "jobs": told, "not_told": []})
