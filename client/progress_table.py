"""Follows several jobs at once: a table of them on a terminal, a line at each job's changes elsewhere."""

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from client.progress import LABELS, STATUS_STYLES, Standing, duration, line, repeated
from client.sdk import Asym

MOST = 50
"""So many the API compares in one request."""


def look_at_all(asym: Asym, job_ids: Sequence[str]) -> list[Standing]:
    """Where these jobs stand now, in their order, in two requests. AsymError 404 names one that is not there."""
    found = {job["id"]: job for job in asym.jobs_page(ids=job_ids, limit=len(job_ids))["data"]}
    jobs = [found.get(job_id) or asym.job(job_id) for job_id in job_ids]
    # Of curves that are thinned at the same steps the last point is always kept.
    compared = asym.compare(job_ids, list(LABELS), max_points=2, thinned="same_steps")["jobs"]
    standings = []
    for job in jobs:
        latest = {}
        for key, series in compared[job["id"]]["keys"].items():
            values = [value for value in series["value"] if value is not None]
            if values:
                latest[key] = values[-1]
        standings.append(Standing(job, latest))
    return standings


def follow_all(asym: Asym, job_ids: Sequence[str]) -> Iterator[list[Standing]]:
    """Where they stand, every second, until all have ended."""
    return repeated(lambda: look_at_all(asym, job_ids))


def show_all(asym: Asym, job_ids: Sequence[str], console: Console) -> list[Standing]:
    """Show them until all have ended: where they stood then."""
    last: list[Standing] = []
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            for last in follow_all(asym, job_ids):
                live.update(table_of(last))
        return last
    shown: dict[str, object] = {}
    for last in follow_all(asym, job_ids):
        for standing in last:
            job = standing.job
            stretch = standing.step // max(job["progress"]["steps"] // 30, 1)
            if shown.get(job["id"]) != (news := (job["status"], stretch, standing.note)):
                shown[job["id"]] = news
                console.print(f"{job['id']}  {line(standing)}", soft_wrap=True, highlight=False, markup=False)
    return last


def table_of(standings: Sequence[Standing]) -> RenderableType:
    table = Table("job", "name", "status", "", "step", *LABELS.values(), "ETA", box=None, header_style="bold")
    for standing in standings:
        job, steps = standing.job, standing.job["progress"]["steps"]
        eta = job["progress"]["eta_seconds"]
        latest = (standing.latest.get(key) for key in LABELS)
        table.add_row(
            Text(job["id"]),
            Text(job["name"]),
            Text(job["status"], STATUS_STYLES.get(job["status"], "bold")),
            ProgressBar(total=max(steps, 1), completed=standing.step, width=20),
            f"{standing.step}/{steps}",
            *("–" if value is None else f"{value:.3f}" for value in latest),
            Text(standing.note, "yellow") if standing.note else duration(None if standing.ended else eta),
        )
    return table
