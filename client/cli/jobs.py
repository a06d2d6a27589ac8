"""Commands that make and steer jobs, submit to delete, and show what they wait for: queue, workers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli import completion
from client.cli.output import AsJson, ago, print_json, print_table, remark, transfer_bar
from client.cli.watching import watch_to_the_end

if TYPE_CHECKING:
    from client.results import Job, Validation
    from client.sdk import Asym

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, job_…", autocompletion=completion.jobs)]

Watching = Annotated[
    bool,
    typer.Option("--watch", help="Show the progress; exit 1 unless the job succeeds. --json prints it as it ended."),
]


def register(app: typer.Typer) -> None:
    for command in (submit, jobs, edit, queue, workers, cancel, pause, resume, clone, retry, delete):
        app.command()(command)


def submit(
    spec: Annotated[Path, typer.Argument(help="YAML or JSON. Data: ds_… ids, or files, which are uploaded first.")],
    watch: Watching = False,
    name: Annotated[str | None, typer.Option(help="Instead of the spec's name.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check it, and tell its wait and cost. Files are uploaded, no job is made."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a job from a spec file."""
    from client.sdk import Asym
    from client.spec_file import read_spec

    content = read_spec(spec)
    if name is not None:
        content["name"] = name
    with Asym() as asym:
        content = upload_files(asym, content, spec)
        if dry_run:
            _tell(asym.validate_job(content), as_json)
            return
        _made(asym, asym.create_job(content), watch, as_json)


def _tell(found: "Validation", as_json: bool) -> None:
    from client.progress import duration, wait_in_words

    if as_json:
        print_json(found)
        return
    print(f"queue     {wait_in_words(found['queue'])}")
    told = found["estimate"]
    if told is None:
        print("estimate  none: no run of this model has been measured yet")
    else:
        runs = f"{len(told['runs'])} run{'s' * (len(told['runs']) != 1)} of this model"
        cost = f", {told['gpu_hours']:.3g} GPU-hours" if told["gpu_hours"] else ""
        pace = f"{told['seconds_per_step']:.3g} s a step"
        print(f"estimate  {duration(told['seconds'])}{cost} ({pace}, from {runs}; evaluations come on top)")
    for warning in found["warnings"]:
        print(f"warning   {warning}")


def _made(asym: "Asym", job: "Job", watch: bool, as_json: bool) -> None:
    if not as_json:
        print(job["id"], flush=True)
    elif not watch:
        print_json(job)
    _tell_next(asym, job, watching=watch)
    if watch:
        code = watch_to_the_end(asym, [job["id"]])
        if as_json:
            print_json(asym.job(job["id"]))
        raise typer.Exit(code)


def upload_files(asym: "Asym", content: dict[str, Any], spec: Path) -> dict[str, Any]:
    """The spec with every file that it names uploaded, and replaced by its id."""
    told: list[str] = []
    with transfer_bar("uploading") as progress:
        found = asym.upload_files(
            content,
            spec,
            progress=progress,
            uploaded=lambda name, made: told.append(f"uploaded {name}: {made['rows']} rows as {made['id']}"),
        )
    for line in told:
        remark(line)
    return found


def _tell_next(asym: "Asym", job: "Job", *, watching: bool) -> None:
    from client.progress import waiting

    if job["queue"]:
        remark(f"queued: {waiting(job)}")
    page = asym.run_page(job["id"])
    if page is not None:
        remark(f"its page: {page}")
    if not watching:
        remark(f"next: asym watch {job['id']}")


def jobs(
    status: Annotated[
        str | None, typer.Option(help="Only those queued, running, …", autocompletion=completion.statuses)
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only those with this tag; repeat it for several.")] = None,
    text: Annotated[str | None, typer.Option(help="Only those whose name or notes have words that begin so.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="created, name, status, finished, accuracy or gpu_seconds; a minus first is descending."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from client.sdk import Asym

    with Asym() as asym:
        # The API names the valid statuses.
        found = list(asym.jobs(status=status, tags=tag or (), text=text, sort=sort, limit=limit))  # type: ignore[arg-type]
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "status", "step", "accuracy", "attempt", "tags", "created"),
        (
            (
                job["id"],
                job["name"],
                job["status"],
                f"{job['progress']['step']}/{job['progress']['steps']}",
                job["accuracy"],
                job["attempt"],
                ", ".join(job["tags"]) or None,
                ago(job["created_at"]),
            )
            for job in found
        ),
        empty="no jobs; `asym submit SPEC.yaml` creates one",
    )


def edit(
    job: JobId,
    name: Annotated[str | None, typer.Option()] = None,
    tag: Annotated[list[str] | None, typer.Option(help="In place of its tags; repeat it for several.")] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take its tags away.")] = False,
    notes: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Change a job's name, tags or notes."""
    from client.sdk import Asym

    tags = [] if no_tags else tag
    if name is None and tags is None and notes is None:
        raise typer.BadParameter("say what to change: --name, --tag, --no-tags or --notes")
    with Asym() as asym:
        edited = asym.edit_job(job, name=name, tags=tags, notes=notes)
    if as_json:
        print_json(edited)
    else:
        print(f"{edited['id']} {edited['name']}" + (f" ({', '.join(edited['tags'])})" if edited["tags"] else ""))


def queue(as_json: AsJson = False) -> None:
    """List the team's queued jobs: each one's place, why it waits and for how long."""
    from client.progress import duration
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.queue()
    if as_json:
        print_json(found)
        return
    print_table(
        ("position", "id", "name", "priority", "waits because", "starts in", "queued"),
        (
            (
                job["queue"]["position"],
                job["id"],
                job["name"],
                job["priority"],
                job["queue"]["wait_reason"],
                duration(job["queue"]["eta_seconds"]),
                ago(job["queued_at"]),
            )
            for job in sorted(found, key=lambda job: job["queue"]["position"])
        ),
        empty="nothing waits",
    )


def workers(as_json: AsJson = False) -> None:
    """List the workers: what they have, what is in use, and whether they are heard from."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.workers()
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "state", "GPUs in use", "CPU slots in use", "memory", "labels", "runs", "heard from"),
        (
            (
                worker["name"],
                worker["state"],
                f"{worker['busy_gpus']}/{worker['gpus']}",
                f"{worker['busy_cpu_slots']}/{worker['cpu_slots']}",
                ", ".join(sorted({f"{each['memory_gb'] or '?'} GB" for each in worker["devices"]})) or None,
                ", ".join(worker["labels"]) or None,
                ", ".join(job["id"] for job in worker["jobs"])
                or (f"kept free for a job of {worker['kept_for']} GPUs" if worker["kept_for"] else None),
                ago(worker["heartbeat_at"]),
            )
            for worker in found
        ),
        empty="no worker is connected; `asym worker` starts one",
    )


def cancel(job: JobId, as_json: AsJson = False) -> None:
    """Stop a job for good."""
    _ask(job, "cancel", as_json)


def pause(job: JobId, as_json: AsJson = False) -> None:
    """Write a checkpoint and free the GPUs; `asym resume` goes on from there."""
    _ask(job, "pause", as_json)


def resume(job: JobId, as_json: AsJson = False) -> None:
    """Queue a paused job again; it goes on from its last checkpoint."""
    _ask(job, "resume", as_json)


def clone(
    job: JobId,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="What differs, e.g. algorithm.beta_neg=0.2; repeat it."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Instead of the job's name.")] = None,
    watch: Watching = False,
    as_json: AsJson = False,
) -> None:
    """Run a job's spec again from the beginning, with changes."""
    from client.sdk import Asym
    from client.spec_changes import changes_of

    changes = changes_of(change or [])
    if name is not None:
        changes["name"] = name
    with Asym() as asym:
        _made(asym, asym.clone(job, changes), watch, as_json)


def retry(job: JobId, watch: Watching = False, as_json: AsJson = False) -> None:
    """Go on with a failed or cancelled job from its last checkpoint, as a new job."""
    from client.sdk import Asym

    with Asym() as asym:
        _made(asym, asym.retry(job), watch, as_json)


def delete(job: JobId, as_json: AsJson = False) -> None:
    """Delete an ended job with its metrics, rollouts, log and checkpoints."""
    from client.sdk import Asym

    with Asym() as asym:
        asym.delete_job(job)
    if as_json:
        print_json({"id": job, "deleted": True})
    else:
        remark(f"deleted {job}")


def _ask(job_id: str, action: str, as_json: bool) -> None:
    from client.sdk import Asym

    with Asym() as asym:
        ask = {"cancel": asym.cancel, "pause": asym.pause, "resume": asym.resume}[action]
        job = ask(job_id)
    if as_json:
        print_json(job)
    else:
        print(f"{job['id']} {job['status']}")
