"""The table of runs, decided without Streamlit: its columns and rows, what comes first, who may be filtered for."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboard import curves, wording

TAIL = 8
"""Characters of an id's random end that tell its run from others of the same name."""
ACCURACY, INFORMATIVE, SPURIOUS = KEYS = ("group/accuracy", "entropy/informative", "entropy/spurious")

TITLES = {
    "status": "Status",
    "progress": "Progress",
    "step": "Step",
    "left": "Time left",
    "owner": "Owner",
    "tags": "Tags",
    "model": "Model",
    "preset": "Preset",
    "accuracy": "Accuracy",
    "informative": "Informative H",
    "spurious": "Spurious H",
    "gpu_hours": "GPU-hours",
    "worker_time": "Worker time",
    "attempt": "Attempt",
    "created": "Created",
    "finished": "Finished",
}
"""The columns one can choose, by name, in their order. The run itself and its pin are always there."""
SHOWN_FIRST = (
    *("status", "progress", "left", "owner", "tags", "model", "preset", "accuracy", "informative", "spurious"),
    "gpu_hours",
)
"""Those for which a window 1280 pixels wide has room."""

ORDERS = {
    "newest": "-created",
    "oldest": "created",
    "name": "name",
    "name, descending": "-name",
    "status": "status",
    "last to finish": "-finished",
    "first to finish": "finished",
    "highest accuracy": "-accuracy",
    "lowest accuracy": "accuracy",
    "most GPU-hours": "-gpu_seconds",
    "fewest GPU-hours": "gpu_seconds",
}
"""What one may choose -> the API's `sort`."""

OF_ENDED = frozenset({"finished", "accuracy", "gpu_seconds"})
"""Orders in which only runs that have ended stand: of the others the value changes all the time."""

PINNED, UNPINNED = "★", "☆"
APART = "\N{EM SPACE}\N{EM SPACE}"


def label(job: Mapping[str, Any]) -> str:
    """What the run's button says; no other run's says the same."""
    return f"{job['name']} · {job['id'][-TAIL:]}"


def star(job_id: str, pins: Sequence[str]) -> str:
    """What the button that pins the run says: the star alone has room in its column, the rest tells which run it is."""
    return f"{PINNED if job_id in pins else UNPINNED}{APART}{job_id[-TAIL:]}"


def of_star(label: str, job_ids: Iterable[str]) -> str | None:
    """The run whose star says this; None if it is none of these."""
    return next((job_id for job_id in job_ids if label.endswith(f"{APART}{job_id[-TAIL:]}")), None)


def with_pinned(
    jobs: Sequence[Mapping[str, Any]], pinned: Sequence[Mapping[str, Any]], order: Sequence[str]
) -> list[Mapping[str, Any]]:
    """The pinned ones on top, in the order of their pins, and each run once. order: the pinned ids."""
    by_id = {job["id"]: job for job in pinned}
    top = [by_id[job_id] for job_id in order if job_id in by_id]
    return [*top, *(job for job in jobs if job["id"] not in by_id)]


def rows(
    jobs: Iterable[Mapping[str, Any]],
    columns: Mapping[str, curves.Columns],
    pins: Sequence[str],
    now: datetime,
) -> list[dict[str, Any]]:
    """One row per job, with all columns, ready for display."""
    found = []
    for job in jobs:
        own = columns.get(job["id"], {})
        progress = job["progress"]
        found.append(
            {
                "pin": star(job["id"], pins),
                "open": label(job),
                "status": [job["status"]],
                "progress": 100 * progress["step"] // progress["steps"] if progress["steps"] else 0,
                "step": f"{progress['step']}/{progress['steps']}",
                "left": _place(job) or wording.duration(wording.remaining(job)),
                "owner": job["owner"],
                "tags": list(job["tags"]),
                "model": job["model"].removeprefix("builtin/"),
                "preset": job["preset"],
                "accuracy": None if job["accuracy"] is None else 100 * job["accuracy"],
                "informative": _spark(own, INFORMATIVE),
                "spurious": _spark(own, SPURIOUS),
                "gpu_hours": job["gpu_seconds"] / 3600 or None,  # a run on CPUs has none
                "worker_time": wording.duration(job["used_seconds"]),
                "attempt": job["attempt"],
                "created": wording.about_ago(job["created_at"], now),
                "finished": wording.about_ago(job["finished_at"], now),
            }
        )
    return found


def _place(job: Mapping[str, Any]) -> str:
    position = (job["queue"] or {}).get("position")
    return f"no. {position} in line" if position else ""


def _spark(columns: curves.Columns, key: str) -> list[float]:
    """A sparkline has no place for a gap: undefined steps are left out, and the run page shows them."""
    return [float(value) for value in curves.values(columns, key)[1] if value is not None]


def owners(jobs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Key id -> its name, of those who made these jobs."""
    return {job["created_by"]: job["owner"] for job in jobs}


def owner_labels(names: Mapping[str, str]) -> dict[str, str]:
    """Key id -> what it is called among the others: its name, and the end of its id where two have the same."""
    held = list(names.values())
    return {
        key: name if held.count(name) == 1 else f"{name} · {key[-TAIL:]}"
        for key, name in sorted(names.items(), key=lambda pair: pair[1].lower())
    }
