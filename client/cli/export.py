"""`asym export`: a checkpoint as a folder that other libraries load, on this disk or in a repository of a hub."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli import completion
from client.cli.output import AsJson, print_json, remark, transfer_bar
from client.errors import AsymError
from client.extras import require

if TYPE_CHECKING:
    from client.sdk import Asym


class Format(StrEnum):
    HUGGINGFACE = "huggingface"
    ADAPTER = "adapter"
    MERGED = "merged"


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="JOB[@STEP]",
            help="The checkpoint; without a step the job's newest.",
            autocompletion=completion.jobs,
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    wanted: Annotated[
        Format,
        typer.Option("--format", help="The whole model (huggingface, merged: LoRA merged in), or the LoRA adapter."),
    ] = Format.HUGGINGFACE,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Upload it there as well, with the token in HF_TOKEN."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A new repository is private without this.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a checkpoint as a folder that transformers (or, an adapter, peft) loads; push it to a hub if asked."""
    from client.sdk import Asym

    if push_to_hub is not None:
        require("hub")
        if not os.environ.get("HF_TOKEN"):
            # Before gigabytes are fetched. Never an option: every user of the machine may read those.
            raise typer.BadParameter("set HF_TOKEN to a token that may write there", param_hint="--push-to-hub")
    with Asym() as asym:
        job_id, step = _which(asym, checkpoint)
        with transfer_bar(f"fetching {job_id}@{step}") as progress:
            asym.export_checkpoint(job_id, step, folder, format=wanted.value, progress=progress)
    pushed = None if push_to_hub is None else _push(folder, push_to_hub, f"{job_id}@{step}", private=not public)
    if as_json:
        print_json({"job_id": job_id, "step": step, "folder": str(folder), "pushed": pushed})
        return
    print(folder)
    if pushed is not None:
        remark(f"pushed to {pushed}")


def _which(asym: "Asym", checkpoint: str) -> tuple[str, int]:
    """Of `job_...@20`, `job/job_...@20` as specs write it, or `job_...`."""
    job_id, at, step = checkpoint.removeprefix("job/").partition("@")
    if at and not step.isdecimal():
        raise typer.BadParameter(f"{checkpoint!r} is not JOB@STEP", param_hint="JOB[@STEP]")
    if at:
        return job_id, int(step)
    return job_id, asym.newest_checkpoint(job_id)


def _push(folder: Path, repository: str, source: str, *, private: bool) -> str:
    """Upload from this machine, so that no part of the platform ever sees the token. The repository's address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi(token=os.environ["HF_TOKEN"], library_name="asym")
    try:
        repo = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repo.repo_id, folder_path=folder, commit_message=f"Asym checkpoint {source}")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise AsymError("the hub refused the upload", detail=f"{error}. The folder is at {folder}") from error
    return str(repo)
