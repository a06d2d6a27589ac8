"""Follows a job while it runs and shows where it stands: a live display on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from client.errors import AsymError
from client.results import TERMINAL, Job, QueueInfo
from client.retries import is_passing
from client.sdk import Asym

LABELS = {
    "group/accuracy": "accuracy",
    "entropy/informative": "informative entropy",
    "entropy/spurious": "spurious entropy",
}
STATUS_STYLES = {"succeeded": "bold green", "failed": "bold red", "cancelled": "bold yellow"}
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""How long the API may stay away before following gives up: a restart of the platform is not the job's end."""


@dataclass(frozen=True)
class Standing:
    """A job, and the newest value of each metric that is shown."""

    job: Job
    latest: dict[str, float] = field(default_factory=dict)
    evaluations: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Benchmark name -> (step, pass@1), in order of steps; step 0 is before training."""
    note: str = ""

    @property
    def step(self) -> int:
        return self.job["progress"]["step"]

    @property
    def ended(self) -> bool:
        return self.job["status"] in TERMINAL


def pass_at_1(benchmark: str) -> str:
    return f"eval/{benchmark}/pass_at_k/1"


def look(asym: Asym, job_id: str) -> Standing:
    """Where the job stands now."""
    job = asym.job(job_id)
    benchmarks = [str(benchmark["name"]) for benchmark in job.get("spec", {}).get("eval", [])]
    columns = asym.metrics(job_id, [*LABELS, *map(pass_at_1, benchmarks)])["keys"]
    latest = {}
    for key in LABELS:
        values = [value for value in columns.get(key, {"value": []})["value"] if value is not None]
        if values:
            latest[key] = values[-1]
    evaluations = {}
    for name in benchmarks:
        series = columns.get(pass_at_1(name), {"step": [], "value": []})
        pairs = zip(series["step"], series["value"], strict=True)
        evaluations[name] = [(step, value) for step, value in pairs if value is not None]
    preparing = job["status"] == "running" and not latest and not any(evaluations.values())
    return Standing(
        job, latest, evaluations, "loading the model; a builtin one is made first, once" if preparing else ""
    )


def follow(asym: Asym, job_id: str) -> Iterator[Standing]:
    """Where the job stands, every second, the last one being its end."""
    return (standing for (standing,) in repeated(lambda: [look(asym, job_id)]))


def repeated(look: Callable[[], list[Standing]]) -> Iterator[list[Standing]]:
    """Where the jobs that `look` looks at stand, every second, until all have ended.

    An API or database that goes away for a while (a restart) is waited for, two minutes at most; then AsymError.
    """
    last: list[Standing] | None = None
    away_since: float | None = None
    while True:
        try:
            last = look()
            away_since = None
            yield last
            if all(standing.ended for standing in last):
                return
        except AsymError as error:
            away_since = away_since or time.monotonic()
            if not is_passing(error) or last is None or time.monotonic() - away_since > PATIENCE_SECONDS:
                raise
            yield [replace(standing, note=f"{error.title}; trying again") for standing in last]
        time.sleep(POLL_SECONDS)


def show(asym: Asym, job_id: str, console: Console) -> Standing:
    """Show the job until it ends: where it stood then."""
    if not console.is_terminal:
        return _show_lines(asym, job_id, console)
    standing = None
    with Live(console=console, refresh_per_second=4) as live:
        for standing in follow(asym, job_id):
            live.update(_panel(standing))
    if standing is None:
        raise AssertionError("following a job yields at least its end")
    return standing


def _show_lines(asym: Asym, job_id: str, console: Console) -> Standing:
    """A line when the status changes, with every evaluation, and else about thirty over the whole run."""
    shown: object = None
    for standing in follow(asym, job_id):
        stretch = standing.step // max(standing.job["progress"]["steps"] // 30, 1)
        news = (standing.job["status"], stretch, standing.evaluations, standing.note)
        if news != shown:
            console.print(line(standing), soft_wrap=True, highlight=False, markup=False)
            shown = news
    return standing


def line(standing: Standing) -> str:
    job = standing.job
    parts = [f"{job['status']:<9}", f"step {standing.step}/{job['progress']['steps']}"]
    parts += [f"{label} {value}" for label, value in _figures(standing)]
    note = f"({standing.note})" if standing.note else ""
    return "  ".join(part for part in (*parts, _outlook(standing), note) if part)


def _panel(standing: Standing) -> RenderableType:
    job, steps = standing.job, standing.job["progress"]["steps"]
    top = Table.grid(padding=(0, 2))
    top.add_row(
        Text(job["status"], style=STATUS_STYLES.get(job["status"], "bold")),
        ProgressBar(total=max(steps, 1), completed=standing.step, width=40),
        f"step {standing.step}/{steps}",
        _outlook(standing),
    )
    figures = Table.grid(padding=(0, 2))
    for label, value in _figures(standing):
        figures.add_row(Text(label, style="dim"), value)
    return Group(top, figures, Text(standing.note, style="yellow"))


def _figures(standing: Standing) -> list[tuple[str, str]]:
    figures = [(label, f"{standing.latest[key]:.3f}") for key, label in LABELS.items() if key in standing.latest]
    for name, points in standing.evaluations.items():
        if points:
            before = f" (before training {points[0][1]:.3f})" if len(points) > 1 and points[0][0] == 0 else ""
            figures.append((f"{name} pass@1", f"{points[-1][1]:.3f}{before}"))
    return figures


def _outlook(standing: Standing) -> str:
    eta = standing.job["progress"]["eta_seconds"]
    if standing.job["queue"]:
        return waiting(standing.job)
    return "" if standing.ended or eta is None else f"ETA {duration(eta)}"


def waiting(job: Job) -> str:
    """What a queued job waits for, in words; empty for one that is not queued."""
    return "" if job["queue"] is None else wait_in_words(job["queue"])


def wait_in_words(queue: QueueInfo) -> str:
    parts = [f"position {queue['position']}", queue["wait_reason"]]
    if queue["code"] == "no_worker":
        parts.append("`asym worker` starts one")
    if queue["eta_seconds"]:
        parts.append(f"starts in about {duration(queue['eta_seconds'])}")
    return ", ".join(parts)


def duration(seconds: float | None) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`; a dash when unknown."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
